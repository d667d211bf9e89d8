//! The idle connections of one core.
//!
//! Each core has a pool of its own, which is used without locks. HTTP/1.1 connections are taken last in, first
//! out, so that unneeded ones reach their idle timeout and are closed. HTTP/2 connections stay in the pool while
//! they have streams.
//!
//! A connection that has reached `max_connection_age`, or whose address is no longer one of its endpoint, takes no
//! further requests. It is closed when it becomes free; an idle one at the next sweep.
//!
//! Connections belong to an endpoint. When the endpoint has left its set, its idle connections are closed at once,
//! and each connection in use when it becomes free. If requests wait for a connection because the upstream is at
//! its limit, as many idle connections are closed as requests wait.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use witgate_exchange::names::Numbered;

use super::limit::{Core, Limit, Next};
use crate::Upstream;
use crate::connection::{Connection, Http2, Stream};
use crate::core_local::POOL;
use crate::endpoint::Endpoint;
use crate::send::http1::Http1;

/// The interval in which expired connections are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of one core.
#[derive(Default)]
pub(crate) struct Pool {
    core: Arc<Core>,
    /// By the number of the endpoint.
    endpoints: Numbered<EndpointConnections>,
    /// Connections reserved for waiters, by the number of the waiter.
    reserved: Numbered<Connection>,
    sweeper: Option<JoinHandle<()>>,
}

/// The connections to one endpoint.
struct EndpointConnections {
    endpoint: Arc<Endpoint>,
    /// The connection limit of its upstream, which all versions of the upstream share.
    limit: Arc<Limit>,
    /// `keep_alive` of the version of the upstream that used the endpoint last.
    keep_alive: Duration,
    /// `max_connection_age` of that version.
    max_age: Option<Duration>,
    idle: VecDeque<Idle>,
    shared: Vec<Rc<Http2>>,
    /// The value of `Endpoint::purges` up to which this pool has closed idle connections.
    purged: u32,
    /// Held while an HTTP/2 connection is opened, so that many requests share one connection.
    opening: Rc<tokio::sync::Mutex<()>>,
}

struct Idle {
    connection: Box<Http1>,
    since: Instant,
}

impl Pool {
    fn connections(&mut self, upstream: &Upstream, endpoint: &Arc<Endpoint>) -> &mut EndpointConnections {
        let connections = self.endpoints.entry(endpoint.id).or_insert_with(|| EndpointConnections {
            endpoint: endpoint.clone(),
            limit: upstream.carried.limit.clone(),
            keep_alive: upstream.config.keep_alive,
            max_age: upstream.config.max_connection_age,
            idle: VecDeque::new(),
            shared: Vec::new(),
            purged: endpoint.purges.load(Ordering::Relaxed),
            opening: Rc::default(),
        });
        connections.keep_alive = upstream.config.keep_alive;
        connections.max_age = upstream.config.max_connection_age;
        connections
    }

    /// Closes as many idle connections of each upstream as requests wait for one. Another core may do the same at
    /// the same time, so too many may be closed; they are soon opened again.
    fn make_room(&mut self, closed: &mut Vec<Closed>) {
        let mut wanted: Vec<(*const Limit, usize)> = Vec::new();
        for connections in self.endpoints.values_mut() {
            let limit = Arc::as_ptr(&connections.limit);
            let index = wanted.iter().position(|(known, _)| *known == limit).unwrap_or_else(|| {
                wanted.push((limit, connections.limit.waiting()));
                wanted.len() - 1
            });
            let wanted = &mut wanted[index].1;
            let before = closed.len();
            connections.close_idle(*wanted, closed);
            *wanted -= closed.len() - before;
        }
    }

    fn sweep_from_now_on(&mut self) {
        if self.sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            self.sweeper = Some(tokio::task::spawn_local(sweep()));
        }
    }
}

/// This core, as connection limits know it.
pub(crate) fn core() -> Arc<Core> {
    POOL.with_borrow(|pool| pool.core.clone())
}

/// Takes an idle connection that is still alive, if there is one, and returns how long it has been idle at `now`.
pub(crate) fn take(
    upstream: &Arc<Upstream>,
    endpoint: &Endpoint,
    now: Instant,
) -> Option<(Connection, Duration)> {
    POOL.with_borrow_mut(|pool| {
        let connections = pool.endpoints.get_mut(&endpoint.id)?;
        if connections.follow_purges() {
            return None;
        }
        while let Some(Idle { mut connection, since }) = connections.idle.pop_back() {
            let idle = now.saturating_duration_since(since);
            let spent = connection.opening().is_spent(endpoint, upstream.config.max_connection_age, now);
            if idle < upstream.config.keep_alive && !spent && connection.is_alive() {
                return Some((Connection::Http1(connection), idle));
            }
        }
        connections.retire_spent(now);
        connections.shared.retain(|connection| !connection.is_closed());
        connections.shared.iter().find_map(|connection| {
            let idle = match connection.is_idle() {
                true => now.saturating_duration_since(connection.idle_since.get()),
                false => Duration::ZERO,
            };
            Some((Connection::Http2(connection.stream()?), idle))
        })
    })
}

/// The lock under which HTTP/2 connections to an endpoint are opened.
pub(crate) fn opening(upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>) -> Rc<tokio::sync::Mutex<()>> {
    POOL.with_borrow_mut(|pool| pool.connections(upstream, endpoint).opening.clone())
}

/// Shares a new HTTP/2 connection from now on, first with waiters.
pub(crate) fn share(upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>, connection: &Rc<Http2>) {
    POOL.with_borrow_mut(|pool| {
        pool.sweep_from_now_on();
        pool.connections(upstream, endpoint).shared.push(connection.clone());
    });
    while let Some(stream) = connection.stream() {
        if !offer_stream(upstream, endpoint, stream) {
            break;
        }
    }
}

/// Called when a connection becomes free at `now`. It goes to a waiter or into the pool, or is closed.
pub(crate) fn give_back(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    connection: Connection,
    now: Instant,
) {
    match connection {
        Connection::Http1(connection) => give_back_http1(upstream, endpoint, connection, now),
        Connection::Http2(stream) => {
            let connection = stream.connection.clone();
            offer_stream(upstream, endpoint, stream);
            if endpoint.has_left()
                || connection.opening.is_spent(endpoint, upstream.config.max_connection_age, now)
            {
                connection.retiring.set(true);
            }
            if connection.retiring.get() && connection.is_idle() {
                forget(endpoint, &connection);
            }
        }
    }
}

fn give_back_http1(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    mut connection: Box<Http1>,
    now: Instant,
) {
    if connection.opening().is_spent(endpoint, upstream.config.max_connection_age, now) {
        return;
    }
    let closed = POOL.with_borrow_mut(|pool| {
        match upstream.carried.limit.next(&pool.core, endpoint.id, &mut connection.overtakes) {
            Next::Close => return Some(connection),
            Next::HandOver(id) => {
                pool.reserved.insert(id, Connection::Http1(connection));
            }
            Next::Keep if endpoint.has_left() => return Some(connection),
            Next::Keep => {
                pool.sweep_from_now_on();
                let connections = pool.connections(upstream, endpoint);
                connections.idle.push_back(Idle { connection, since: now });
                if connections.idle.len() > upstream.config.idle_connections {
                    return connections.idle.pop_front().map(|oldest| oldest.connection);
                }
            }
        }
        None
    });
    // Dropped outside of the borrow: what is dropped may run code that uses the pool.
    drop(closed);
}

/// Offers a stream to a waiter. Returns true if a waiter took it.
fn offer_stream(upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>, stream: Stream) -> bool {
    let connection = stream.connection.clone();
    let mut overtakes = connection.overtakes.get();
    let next = upstream.carried.limit.next(&core(), endpoint.id, &mut overtakes);
    connection.overtakes.set(overtakes);
    match next {
        Next::HandOver(id) => {
            reserve(id, Connection::Http2(stream));
            true
        }
        Next::Close => {
            connection.retiring.set(true);
            false
        }
        Next::Keep => false,
    }
}

fn forget(endpoint: &Endpoint, connection: &Rc<Http2>) {
    POOL.with_borrow_mut(|pool| {
        if let Some(connections) = pool.endpoints.get_mut(&endpoint.id) {
            connections.shared.retain(|shared| !Rc::ptr_eq(shared, connection));
        }
    });
}

fn reserve(id: u64, connection: Connection) {
    POOL.with_borrow_mut(|pool| pool.reserved.insert(id, connection));
}

/// Takes the connection that is reserved for a waiter.
pub(crate) fn take_reserved(id: u64) -> Option<Connection> {
    // A request may be dropped together with its thread, after the pool.
    POOL.try_with(|pool| pool.borrow_mut().reserved.remove(&id)).ok().flatten()
}

/// Closes connections that have been idle for too long. When it is woken, it closes connections of endpoints that
/// have left their set, and as many idle ones as requests wait for. It ends when there are no connections left.
async fn sweep() {
    let core = core();
    let mut due = Instant::now() + SWEEP;
    loop {
        let is_due = tokio::select! {
            biased;
            () = tokio::time::sleep_until(due.into()) => true,
            () = core.close_idle.notified() => false,
        };
        let (closed, done) = POOL.with_borrow_mut(|pool| {
            let mut closed = Vec::new();
            if is_due {
                due = Instant::now() + SWEEP;
                pool.endpoints.retain(|_, connections| connections.sweep(&mut closed));
            } else {
                pool.endpoints.retain(|_, connections| !connections.close_if_left(&mut closed));
            }
            pool.make_room(&mut closed);
            (closed, pool.endpoints.is_empty())
        });
        // Dropped outside of the borrow: what is dropped may run code that uses the pool.
        drop(closed);
        if done {
            return;
        }
    }
}

/// What is closed by being dropped.
enum Closed {
    Http1 { _connection: Box<Http1> },
    Http2 { _connection: Rc<Http2> },
}

impl EndpointConnections {
    /// Moves connections that are to be closed to `closed`. Returns false if nothing is left for this endpoint.
    fn sweep(&mut self, closed: &mut Vec<Closed>) -> bool {
        if self.close_if_left(closed) {
            return false;
        }
        if self.follow_purges() {
            self.close_idle(usize::MAX, closed);
        }
        let (keep_alive, max_age, now) = (self.keep_alive, self.max_age, Instant::now());
        self.retire_spent(now);
        let old = |since: Instant| now.saturating_duration_since(since) >= keep_alive;
        let mut index = 0;
        while let Some(idle) = self.idle.get_mut(index) {
            let spent = idle.connection.opening().is_spent(&self.endpoint, max_age, now);
            if spent || old(idle.since) || !idle.connection.is_alive() {
                let idle = self.idle.remove(index);
                closed.extend(idle.map(|idle| Closed::Http1 { _connection: idle.connection }));
            } else {
                index += 1;
            }
        }
        self.shared.retain(|connection| {
            let spent = connection.retiring.get() || old(connection.idle_since.get());
            let close = connection.is_closed() || (connection.is_idle() && spent);
            if close {
                closed.push(Closed::Http2 { _connection: connection.clone() });
            }
            !close
        });
        !(self.idle.is_empty() && self.shared.is_empty() && Rc::strong_count(&self.opening) == 1)
    }

    /// Has shared connections take no further requests that are too old, or whose address is no longer one of the
    /// endpoint.
    fn retire_spent(&self, now: Instant) {
        let spent = |connection: &&Rc<Http2>| connection.opening.is_spent(&self.endpoint, self.max_age, now);
        self.shared.iter().filter(spent).for_each(|connection| connection.retiring.set(true));
    }

    /// Whether the endpoint has left its set. If so, idle connections are moved to `closed`, and shared ones close
    /// when idle.
    fn close_if_left(&mut self, closed: &mut Vec<Closed>) -> bool {
        let has_left = self.endpoint.has_left();
        if has_left {
            self.close_idle(usize::MAX, closed);
            self.shared.iter().for_each(|connection| connection.retiring.set(true));
        }
        has_left
    }

    /// Drops the idle connections if the endpoint was found broken since the last call. Connections in use have
    /// shown that they are alive.
    fn follow_purges(&mut self) -> bool {
        let purges = self.endpoint.purges.load(Ordering::Relaxed);
        if self.purged == purges {
            return false;
        }
        self.purged = purges;
        self.idle.clear();
        self.shared
            .iter()
            .filter(|connection| connection.is_idle())
            .for_each(|connection| connection.retiring.set(true));
        true
    }

    /// Closes idle connections, but at most `most`.
    fn close_idle(&mut self, most: usize, closed: &mut Vec<Closed>) {
        let before = closed.len();
        while closed.len() - before < most && !self.idle.is_empty() {
            self.close_oldest(closed);
        }
        self.shared.retain(|connection| {
            let close = connection.is_idle() && closed.len() - before < most;
            if close {
                connection.retiring.set(true);
                closed.push(Closed::Http2 { _connection: connection.clone() });
            }
            !close
        });
    }

    fn close_oldest(&mut self, closed: &mut Vec<Closed>) {
        closed.extend(self.idle.pop_front().map(|idle| Closed::Http1 { _connection: idle.connection }));
    }
}
