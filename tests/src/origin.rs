//! A real HTTP service behind the gateway.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

/// The body of an origin's response.
pub type OriginBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A request as the origin received it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method.
    pub method: Method,
    /// Request target.
    pub uri: Uri,
    /// Every header.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Trailers, if any.
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    /// A header's value as text; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }
}

/// An HTTP service on a free loopback port: HTTP/1.1, and HTTP/2 with prior knowledge. Ends when dropped.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Origin {
    /// An origin that responds to every request with 200 and the text `NAME METHOD TARGET`.
    pub async fn named(name: &'static str) -> Self {
        Self::with(move |seen: &Seen| {
            Response::new(Full::from(format!("{name} {} {}", seen.method, seen.uri)))
        })
        .await
    }

    /// An origin whose responses are made by a function of the received request.
    pub async fn with<F>(answer: F) -> Self
    where
        F: Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let answer = Arc::new(answer);
        let mut origin = Self::serving(move |request| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let seen = read(request).await;
                let response = answer(&seen).map(BodyExt::boxed_unsync);
                log.lock().expect("no test panics while holding the log").push(seen);
                response
            }
        })
        .await;
        origin.seen = seen;
        origin
    }

    /// An origin with a handler of its own for each request. [`Origin::seen`] stays empty.
    pub async fn serving<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<OriginBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let handler = Arc::new(handler);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Arc::clone(&handler);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = handler(request);
                        async move { Ok::<_, std::convert::Infallible>(answer.await) }
                    });
                    // Errors of a connection are checked on the gateway's side.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Origin { address, seen: Arc::default(), task }
    }

    /// The address of the origin.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests received so far, in order of completion.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics while holding the log").clone()
    }

    /// The last request that was received.
    ///
    /// # Panics
    /// No request was received.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the origin was asked")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(request: Request<Incoming>) -> Seen {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await;
    let (body, trailers) = match collected {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            (collected.to_bytes(), trailers)
        }
        Err(_) => (Bytes::new(), None),
    };
    Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body, trailers }
}
