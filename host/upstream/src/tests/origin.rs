//! Origins that send exactly what a test specifies, on a thread of their own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// An origin. It ends when it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<Log>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What an origin has received.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) connections: AtomicUsize,
    pub(crate) open: AtomicUsize,
    /// The heads and bodies of requests, in the order of arrival.
    pub(crate) requests: Mutex<Vec<String>>,
}

/// One connection, as the origin sees it.
pub(crate) struct Visitor {
    pub(crate) stream: BufReader<TcpStream>,
    /// The number of the connection, counted from 0.
    pub(crate) number: usize,
    log: Present,
}

/// Counts a connection as open until it is dropped.
struct Present(Arc<Log>);

impl Origin {
    /// Starts an origin that handles every connection with `serve`.
    pub(crate) fn start<F>(serve: F) -> Origin
    where
        F: AsyncFn(Visitor) + Send + 'static,
    {
        let log = Arc::<Log>::default();
        let seen = log.clone();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, seen, serve) => {}
                    _ = stopped => {}
                }
            });
        });
        Origin { address: started.recv().unwrap(), log, stop: Some(stop), thread: Some(thread) }
    }

    /// An origin that responds to every request with this text.
    pub(crate) fn answering(answer: &'static str) -> Origin {
        Origin::start(async move |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                visitor.send(answer).await;
            }
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.log.requests.lock().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the origin panicked");
    }
}

async fn accept<F>(listener: TcpListener, log: Arc<Log>, serve: F)
where
    F: AsyncFn(Visitor) + 'static,
{
    let serve = Rc::new(serve);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = log.connections.fetch_add(1, Ordering::SeqCst);
        log.open.fetch_add(1, Ordering::SeqCst);
        let visitor = Visitor { stream: BufReader::new(stream), number, log: Present(log.clone()) };
        let serve = serve.clone();
        tokio::task::spawn_local(async move { serve(visitor).await });
    }
}

impl Visitor {
    /// The next request with its body. `None` at the end of the connection.
    pub(crate) async fn request(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut length = 0;
        loop {
            let start = text.len();
            if self.stream.read_line(&mut text).await.ok()? == 0 {
                return None;
            }
            let line = text[start..].to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        text.push_str(&String::from_utf8_lossy(&body));
        self.log.0.requests.lock().unwrap().push(text.clone());
        Some(text)
    }

    pub(crate) async fn send(&mut self, text: &str) {
        // The gateway may have closed the connection.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Waits until this is the only connection.
    pub(crate) async fn alone(&self) {
        while self.log.0.open.load(Ordering::SeqCst) > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Reads a chunked body to its end, undecoded.
    pub(crate) async fn read_chunked(&mut self) {
        let mut text = String::new();
        while !text.ends_with("0\r\n\r\n") {
            if self.stream.read_line(&mut text).await.unwrap() == 0 {
                return;
            }
        }
    }

    /// Reads until this many bytes of a chunked body and its end have come.
    pub(crate) async fn read_to(&mut self, bytes: usize) {
        let mut read = 0;
        let mut buffer = vec![0; 64 * 1024];
        while read < bytes || !buffer.ends_with(b"0\r\n\r\n") {
            buffer.resize(64 * 1024, 0);
            let count = self.stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the body ended early");
            buffer.truncate(count);
            read += count;
        }
    }

    /// Waits until the gateway closes the connection.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
