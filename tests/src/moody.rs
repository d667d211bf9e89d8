//! An origin whose behaviour a test changes while it serves: killed, stopped, slow, sending invalid responses, and
//! working again.
//!
//! Every request carries an id in `x-id`, and the origin counts how often it received each. It runs on a thread of
//! its own and keeps its port reserved while it is killed, so that it comes back at the same address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

/// How a [`MoodyOrigin`] behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It responds normally.
    Well,
    /// Connections are reset, and new ones are refused.
    Killed,
    /// It does nothing, like a stopped process: the kernel still accepts connections for it.
    Paused,
    /// It responds after this time.
    Slow(Duration),
    /// Its response is not HTTP.
    Garbage,
    /// It closes the connection within the head of the response.
    HalfHead,
    /// It closes the connection within the body of the response.
    HalfBody,
}

/// An origin whose behaviour a test changes. It ends when dropped.
pub struct MoodyOrigin {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How often each id was received.
type Seen = Arc<Mutex<HashMap<String, usize>>>;

impl MoodyOrigin {
    /// Starts an origin that responds normally.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start() -> Self {
        let (mood, moods) = watch::channel(Mood::Well);
        let seen = Seen::default();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let log = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, async move {
                // This socket is bound and never listens, so it reserves the port while the origin is killed.
                let reserved = bind("127.0.0.1:0".parse().expect("an address"));
                let address = reserved.local_addr().expect("a bound socket has an address");
                ready.send(address).expect("the test waits");
                tokio::select! {
                    () = live(address, moods, log) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = started.recv().expect("the origin starts");
        Self { address, mood, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// The address of the origin.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes its behaviour, also during a request.
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How often it received each id. A request counts once its head was read.
    pub fn seen(&self) -> HashMap<String, usize> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for MoodyOrigin {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the origin panicked");
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a fresh socket takes options");
    socket.set_reuseport(true).expect("a fresh socket takes options");
    socket.bind(address).expect("the port is ours");
    socket
}

/// Runs the origin: each turn serves from a start to a kill.
async fn live(address: SocketAddr, mut moods: watch::Receiver<Mood>, seen: Seen) {
    loop {
        let _ = moods.wait_for(|mood| *mood != Mood::Killed).await;
        let listener = bind(address).listen(1024).expect("the port is ours");
        let mut connections = JoinSet::new();
        let mut ending = moods.clone();
        tokio::select! {
            () = accept(&listener, &mut connections, &moods, &seen) => {}
            _ = ending.wait_for(|mood| *mood == Mood::Killed) => {}
        }
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    moods: &watch::Receiver<Mood>,
    seen: &Seen,
) {
    loop {
        awake(&mut moods.clone()).await;
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_zero_linger();
        connections.spawn_local(serve(stream, moods.clone(), Arc::clone(seen)));
    }
}

/// Waits until the origin is not stopped.
async fn awake(moods: &mut watch::Receiver<Mood>) -> Mood {
    moods.wait_for(|mood| *mood != Mood::Paused).await.map_or(Mood::Killed, |mood| *mood)
}

async fn serve(stream: TcpStream, mut moods: watch::Receiver<Mood>, seen: Seen) {
    let mut stream = BufReader::new(stream);
    while let Some(id) = read(&mut stream, &mut moods).await {
        *seen.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
        let mood = awake(&mut moods).await;
        if let Mood::Slow(time) = mood {
            tokio::time::sleep(time).await;
        }
        let (answer, goes_on) = match mood {
            Mood::Garbage => ("\u{1}\u{2} no HTTP\r\n\r\n", false),
            Mood::HalfHead => ("HTTP/1.1 200 OK\r\ncontent-le", false),
            Mood::HalfBody => ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwe", false),
            _ => ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell", true),
        };
        if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if !goes_on {
            // Closing the write side first, because a reset could discard bytes that the client has not read yet.
            let _ = stream.get_mut().shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
    }
}

/// The id of the next request, whose body has a `Content-Length`; `None` at the end of the connection.
async fn read(stream: &mut BufReader<TcpStream>, moods: &mut watch::Receiver<Mood>) -> Option<String> {
    let (mut id, mut length) = (String::new(), 0);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        awake(moods).await;
        match line.trim_end().split_once(": ") {
            Some(("x-id", value)) => id = value.to_owned(),
            Some(("content-length", value)) => length = value.parse().ok()?,
            _ if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(id)
}
