//! The connection of one state to its servers, which is also its circuit breaker.
//!
//! A separate thread makes the connection, keeps trying while there is none, and checks an existing one once a
//! second. All cores send through this one connection. It is multiplexed, so no operation waits for the reply to
//! another. A clear failure removes the connection, and operations fail at once while there is none. Only the
//! thread puts a connection back, after a trial that succeeded in time. Requests therefore never wait to find out
//! whether the servers can be reached.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::counts::Counts;
use super::script::{Script, ScriptCall};

/// Timeouts in a row after which the connection is removed.
const TIMEOUTS: u32 = 5;

/// The part that all users of one state share.
pub(super) struct Link {
    connection: ArcSwapOption<Connection>,
    /// Number of operations in a row that timed out.
    timeouts: AtomicU32,
    /// Notified when the connection was removed.
    lost: Notify,
    problem: Mutex<Option<String>>,
    pub(super) counts: Counts,
}

/// A connection. Its clones share one socket or, in a cluster, one for each server.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no connection, or it failed.
    Unreachable,
    /// There was no reply in time. The server may have carried out the operation, or may still do so.
    TimedOut,
    /// The server has no memory for the operation.
    OutOfMemory,
    /// The server refused the operation.
    Refused,
    /// The reply, or what the server has stored, is not in the form or size that this gateway writes.
    Malformed,
}

impl Connection {
    /// Runs a script by its name, or by its text if the server does not know it.
    pub(super) async fn run(&self, script: &Script, call: &ScriptCall) -> RedisResult<Value> {
        match self.send(&script.by_hash(call)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(&script.by_text(call)).await
            }
            answered => answered,
        }
    }

    async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self.clone() {
            Connection::Server(mut connection) => connection.req_packed_command(command).await,
            Connection::Cluster(mut connection) => connection.req_packed_command(command).await,
        };
        // An error of the server comes as a value.
        answer?.extract_error()
    }
}

impl Link {
    /// A link without a connection.
    pub(super) fn new() -> Link {
        Link {
            connection: ArcSwapOption::empty(),
            timeouts: AtomicU32::new(0),
            lost: Notify::new(),
            problem: Mutex::new(Some("it has not been reached yet".to_owned())),
            counts: Counts::default(),
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.connection.load().is_some()
    }

    /// Why there is no connection.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Puts a connection in use. Only the thread of the state calls this.
    pub(super) fn put(&self, connection: Connection) {
        self.timeouts.store(0, Ordering::Relaxed);
        self.set_problem(None);
        self.connection.store(Some(Arc::new(connection)));
    }

    /// Waits until the connection was removed.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Runs a script within a time limit.
    pub(super) async fn run(
        &self,
        script: &Script,
        call: &ScriptCall,
        budget: Duration,
    ) -> Result<Value, Failure> {
        let Some(connection) = self.connection.load_full() else { return Err(Failure::Unreachable) };
        match timeout(budget, connection.run(script, call)).await {
            Ok(Ok(value)) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(&connection, &error)),
            Err(_) => {
                if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS {
                    self.withdraw(
                        &connection,
                        format!("it did not answer within {budget:?}, {TIMEOUTS} times in a row"),
                    );
                }
                Err(Failure::TimedOut)
            }
        }
    }

    /// Decides what an error means, and removes the connection if others would fail too.
    fn failed(&self, connection: &Arc<Connection>, error: &RedisError) -> Failure {
        match judge(error) {
            Verdict::Operation(failure) => failure,
            Verdict::Connection(failure) => {
                self.withdraw(connection, error.to_string());
                failure
            }
        }
    }

    /// Removes a connection, unless it was replaced meanwhile.
    pub(super) fn withdraw(&self, connection: &Arc<Connection>, problem: String) {
        let before = self.connection.compare_and_swap(connection, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, connection)) {
            self.set_problem(Some(problem));
            self.lost.notify_one();
        }
    }

    /// The connection in use.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.load_full()
    }
}

/// What an error concerns.
enum Verdict {
    /// Only this operation.
    Operation(Failure),
    /// The connection, on which other operations would fail too.
    Connection(Failure),
}

fn judge(error: &RedisError) -> Verdict {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, NoPerm, ReadOnly};
    match error.kind() {
        // The replica was the master a moment ago, or the server is temporarily unable to serve.
        ErrorKind::Server(ReadOnly | MasterDown | BusyLoading | ClusterDown | NoPerm) => {
            Verdict::Connection(Failure::Refused)
        }
        ErrorKind::AuthenticationFailed => Verdict::Connection(Failure::Refused),
        ErrorKind::Server(_) | ErrorKind::Extension => Verdict::Operation(match error.code() {
            Some("OOM") => Failure::OutOfMemory,
            Some("MALFORMED" | "WRONGTYPE") => Failure::Malformed,
            _ if error.to_string().contains("WRONGTYPE") => Failure::Malformed,
            _ => Failure::Refused,
        }),
        _ => Verdict::Connection(Failure::Unreachable),
    }
}
