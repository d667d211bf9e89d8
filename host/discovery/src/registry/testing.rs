//! For tests of sources: a sink that keeps what it is told, and a server of HTTP/1.1 that follows a script.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};
use witgate_config::model::RegistryServers;
use witgate_exchange::contracts::discovery::{Difference, EndpointSink, EndpointSpec, Refused, Source};

/// The longest time that a test waits for something.
const DEADLINE: Duration = Duration::from_secs(30);

/// Keeps what a source reports.
#[derive(Default)]
pub(crate) struct Heard {
    sets: Mutex<Vec<Vec<EndpointSpec>>>,
    failures: Mutex<Vec<String>>,
    confirmed: AtomicUsize,
}

impl Heard {
    /// The last set.
    pub(crate) fn set(&self) -> Option<Vec<EndpointSpec>> {
        self.sets.lock().unwrap().last().cloned()
    }

    /// The hosts of the last set, in the order of the source.
    pub(crate) fn hosts(&self) -> Option<String> {
        let hosts = |set: Vec<EndpointSpec>| {
            let hosts: Vec<String> = set.into_iter().map(|spec| spec.host).collect();
            hosts.join(" ")
        };
        self.set().map(hosts)
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    pub(crate) fn sets(&self) -> usize {
        self.sets.lock().unwrap().len()
    }

    pub(crate) fn confirmed(&self) -> usize {
        self.confirmed.load(Ordering::SeqCst)
    }

    /// Waits until something is the case.
    pub(crate) async fn wait(&self, what: &str, is_it: impl Fn(&Heard) -> bool) {
        let begun = Instant::now();
        while !is_it(self) {
            assert!(
                begun.elapsed() < DEADLINE,
                "{what}: {:?}, {:?}",
                self.hosts(),
                self.failures.lock().unwrap()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn wait_for_hosts(&self, hosts: &str) {
        self.wait(hosts, |heard| heard.hosts().as_deref() == Some(hosts)).await;
    }
}

impl EndpointSink for Heard {
    fn whole(&self, endpoints: Vec<EndpointSpec>) -> Result<(), Refused> {
        self.sets.lock().unwrap().push(endpoints);
        Ok(())
    }

    fn difference(&self, _: Difference) -> Result<(), Refused> {
        panic!("sources of registries report whole sets")
    }

    fn confirm(&self) {
        self.confirmed.fetch_add(1, Ordering::SeqCst);
    }

    fn failed(&self, why: String) {
        self.failures.lock().unwrap().push(why);
    }
}

/// Runs a source once, until it fails. Returns why.
pub(crate) async fn failure(source: &mut dyn Source, heard: &Heard) -> String {
    let run = tokio::time::timeout(DEADLINE, source.run(heard)).await;
    run.expect("the source fails in time").expect_err("it does not end well")
}

/// Runs a source while the test goes on.
pub(crate) async fn during(source: &mut dyn Source, heard: &Heard, test: impl Future<Output = ()>) {
    tokio::select! {
        ended = source.run(heard) => panic!("the source has ended: {ended:?}"),
        () = test => {}
    }
}

/// Runs a source again and again, as its upstream does, while the test goes on.
pub(crate) async fn persistently(source: &mut dyn Source, heard: &Heard, test: impl Future<Output = ()>) {
    let again = async {
        loop {
            let Err(why) = source.run(heard).await else { return };
            heard.failed(why);
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = again => panic!("the source has ended"),
        () = test => {}
    }
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// Sends this, and keeps the connection.
    Send(Vec<u8>),
    /// Sends this, and closes the connection.
    Break(Vec<u8>),
    /// Sends this, and nothing more.
    Hang(Vec<u8>),
    /// Sends the head of an answer, and lines as they come, until there are no more.
    Lines(UnboundedReceiver<String>),
}

/// Makes the reply to each request.
pub(crate) type Replies = Box<dyn Fn() -> Reply + Send + Sync>;

/// A complete answer.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} -\r\n{headers}content-length: {length}\r\n\r\n");
    Reply::Send((head + body).into_bytes())
}

/// A request: how many there were before it, its path with the query, and its head in lower case.
pub(crate) struct ScriptedRequest {
    pub(crate) count: usize,
    pub(crate) path: String,
    pub(crate) head: String,
}

type Script = dyn Fn(ScriptedRequest) -> Reply + Send + Sync;

/// A server that follows a script.
pub(crate) struct Scripted {
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(ScriptedRequest) -> Reply + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (script, count) = (Arc::new(script), Arc::<AtomicUsize>::default());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), count.clone()));
            }
        });
        Scripted { address, accepting }
    }

    /// This server as the only one of a source.
    pub(crate) fn servers(&self) -> RegistryServers {
        RegistryServers { servers: vec![("127.0.0.1".to_owned(), self.address.port())], tls: None }
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, count: Arc<AtomicUsize>) {
    while let Some(head) = head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let count = count.fetch_add(1, Ordering::SeqCst);
        // A client that has gone away is part of some tests.
        match script(ScriptedRequest { count, path, head: head.to_lowercase() }) {
            Reply::Send(bytes) => _ = stream.write_all(&bytes).await,
            Reply::Break(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Hang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                // Until the client closes the connection.
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            Reply::Lines(mut lines) => {
                let _ = stream.write_all(b"HTTP/1.1 200 -\r\nconnection: close\r\n\r\n").await;
                while let Some(line) = lines.recv().await {
                    let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
                }
                return;
            }
        }
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
