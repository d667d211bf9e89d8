//! Upstreams that respond as the file says.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::file::{Message, Pieces};
use super::journal::{Event, Journal, Sent};
use crate::exit::Failure;

/// How long the next chunk waits for the plugin to be called with the one before.
const BETWEEN_CHUNKS: Duration = Duration::from_millis(50);

/// Chunks that were sent one after the other, so that none is joined with the next one.
struct Chunked(mpsc::Receiver<Bytes>);

impl Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A body for hyper. Runs on a local task set.
pub(super) fn body(pieces: Pieces, journal: &Arc<Journal>) -> UnsyncBoxBody<Bytes, Infallible> {
    let chunks = match pieces {
        Pieces::Whole(bytes) => return Full::from(bytes).boxed_unsync(),
        Pieces::Chunks(chunks) => chunks,
    };
    let (sender, receiver) = mpsc::channel(1);
    let journal = Arc::clone(journal);
    tokio::task::spawn_local(async move {
        for chunk in chunks {
            let known = journal.count();
            if sender.send(chunk).await.is_err() {
                break;
            }
            journal.more_than(known, BETWEEN_CHUNKS).await;
        }
    });
    Chunked(receiver).boxed_unsync()
}

/// Headers, one a line.
pub(super) fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    };
    headers.iter().map(line).collect()
}

/// The upstreams of a file, each with an address of its own.
pub(super) struct Origins(Vec<(String, TcpListener, SocketAddr, Vec<Message<StatusCode>>)>);

impl Origins {
    /// Binds a free port for each.
    ///
    /// # Errors
    /// No port is available.
    pub(super) fn bind(responses: BTreeMap<String, Vec<Message<StatusCode>>>) -> Result<Origins, Failure> {
        let bind = |(name, responses)| -> std::io::Result<_> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((name, listener, address, responses))
        };
        let bound: std::io::Result<Vec<_>> = responses.into_iter().map(bind).collect();
        Ok(Origins(bound.map_err(anyhow::Error::from)?))
    }

    /// Name and address of each.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.0.iter().map(|(name, _, address, _)| (name.as_str(), *address))
    }

    /// Begins to respond, on a local task set.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn serve(self, journal: &Arc<Journal>) -> Result<(), Failure> {
        for (name, listener, _, responses) in self.0 {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(anyhow::Error::from)?;
            let origin =
                Rc::new(Origin { name, responses, next: Cell::new(0), journal: Arc::clone(journal) });
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let origin = Rc::clone(&origin);
                    let service = service_fn(move |request| Rc::clone(&origin).respond(request));
                    tokio::task::spawn_local(
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                    );
                }
            });
        }
        Ok(())
    }
}

struct Origin {
    name: String,
    responses: Vec<Message<StatusCode>>,
    next: Cell<usize>,
    journal: Arc<Journal>,
}

impl Origin {
    async fn respond(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
        let (head, received) = request.into_parts();
        // A body that was cut is told as empty; the client's side says that the exchange was cut.
        let received = received.collect().await.map(Collected::to_bytes).unwrap_or_default();
        self.journal.note(Event::Sent(Sent {
            upstream: self.name.clone(),
            line: format!("{} {}", head.method, head.uri),
            headers: lines(&head.headers),
            body: String::from_utf8_lossy(&received).into_owned(),
        }));
        let turn = self.next.get();
        self.next.set((turn + 1).min(self.responses.len() - 1));
        let Message { head: status, headers, body: pieces } = self.responses[turn].clone();
        let mut response = Response::new(body(pieces, &self.journal));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}
