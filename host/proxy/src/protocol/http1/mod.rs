//! HTTP/1.1 (RFC 9112) on one client connection. A request is served inside the connection's own future: it needs
//! no task of its own and no lock.
//!
//! | file | what happens there |
//! |---|---|
//! | `wire` | the bytes of the connection, and its timeouts |
//! | `head`, `chunks` | the strict reading of heads and chunked bodies |
//! | `field` | field lines, as both sides read and write them |
//! | [`body`] | request bodies, read when they are asked for |
//! | `answer`, `write` | responses |
//!
//! The future that serves a request is allocated only while a request is in flight, so that idle connections stay
//! small.

mod answer;
pub mod body;
#[cfg(test)]
mod tests;
mod wire;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::BytesMut;
use http::{Request, Response, Version};
use tokio::sync::oneshot;
use tokio::time::Instant;
use witgate_exchange::body::Body;
use witgate_exchange::informational::{Informational, Sink};
use witgate_exchange::maps;
use witgate_exchange::turn;
use witgate_wire::http1::head::ConnectionOptions;
use witgate_wire::socket::Transport;
use witgate_wire::stream::Side;

use self::answer::Sent;
use self::body::RequestBody;
use self::wire::{Next, Wire};
use crate::listener::bound::Generation;
use crate::listener::data_plane::CoreShared;
use crate::protocol::connection::Connection;
use crate::protocol::lifetime::{self, UnderWay};
use crate::protocol::service;

/// The connection options for the response to a request whose head was refused.
const REFUSED: ConnectionOptions = ConnectionOptions {
    version: Version::HTTP_11,
    keep_alive: false,
    upgrade: false,
    expects_continue: false,
    trailers: false,
    is_head: false,
};

/// Serves requests until the client, an error or a drain ends the connection. `arrived` holds bytes that were
/// already read.
///
/// Not an `async fn`: its future would reserve room for `io` twice, as an argument and inside [`Wire`].
pub(crate) fn serve<T: Transport>(
    plane: &CoreShared,
    connection: Rc<Connection>,
    io: T,
    arrived: BytesMut,
    generation: &Arc<Generation>,
) -> impl Future<Output = ()> {
    let wire =
        Rc::new(RefCell::new(Wire::new(io, arrived, connection.ingress.limits, connection.half_close)));
    async move {
        let mut requests = Box::pin(run(connection.clone(), wire.clone()));
        if !lifetime::drive(requests.as_mut(), &connection, generation, &*wire).await && wire.borrow().busy {
            wire.borrow().reset();
            plane.cut.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Serves one request after the other.
async fn run<T: Transport>(connection: Rc<Connection>, wire: Rc<RefCell<Wire<T>>>) {
    let client = Informational::new(Rc::new(Client(wire.clone())));
    loop {
        let mut request = Request::new(Body::Empty);
        let next = poll_fn(|context| wire.borrow_mut().poll_next(&mut request, context));
        let Ok(next) = next.await else { return };
        let (sent, promise) = match next {
            Next::End => break,
            Next::Refused(fault) => {
                let headers = std::mem::take(request.headers_mut());
                // Boxed, so that connections whose requests are served do not hold memory for it.
                let refusal = Box::pin(service::refuse(&connection, Version::HTTP_11, headers, fault));
                let mut response = refusal.await;
                (answer::send(&wire, &mut response, &REFUSED, true).await, None)
            }
            Next::Request(options) => {
                *request.body_mut() = RequestBody::of(&wire).map_or(Body::Empty, Body::wrap);
                let (promise, side) = options.upgrade.then(oneshot::channel).unzip();
                let side = side.map(Side::Promised);
                // Clients of HTTP/1.0 do not know informational responses (RFC 9110 section 15.2).
                let knows = options.version == Version::HTTP_11;
                let informational = if knows { client.clone() } else { Informational::default() };
                let answered = answered(&connection, &wire, &mut request, side, informational);
                let Some(mut response) = answered.await else { return };
                let sent = answer::send(&wire, &mut response, &options, connection.is_closing()).await;
                maps::give_back(std::mem::take(response.headers_mut()));
                (sent, promise)
            }
        };
        match sent {
            Sent::Kept => {}
            Sent::Last => break,
            // A plain close would look to a client that only stopped sending like the regular end of the response.
            Sent::Gone | Sent::Broken => return wire.borrow().reset(),
            Sent::Switched => {
                // Nobody receives the stream if the tunnel has already ended; it is dropped then.
                if let (Some(promise), Some(stream)) = (promise, wire.borrow_mut().switch()) {
                    let _ = promise.send(stream);
                }
                return;
            }
        }
        wire.borrow_mut().end_request();
        if !drained(&wire).await {
            break;
        }
    }
    wire.borrow_mut().end_request();
    let mut lingering = None;
    poll_fn(|context| wire.borrow_mut().poll_close(context, &mut lingering)).await;
}

/// Takes a request to its response. `None` if the client left before.
///
/// The future that does so is large and most connections are idle, so it is allocated for each request.
async fn answered<T: Transport>(
    connection: &Rc<Connection>,
    wire: &RefCell<Wire<T>>,
    request: &mut Request<Body>,
    side: Option<Side>,
    informational: Informational,
) -> Option<Response<Body>> {
    let mut walk = Box::pin(service::answer(connection.clone(), request, side, informational));
    poll_fn(|context| match walk.as_mut().poll(context) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        // A yield is not a wait, so the client is checked only when the request really waits for something.
        Poll::Pending if turn::is_given_up() => Poll::Pending,
        Poll::Pending => {
            let mut wire = wire.borrow_mut();
            // Informational responses do not wait for the response.
            let stuck = !wire.output.is_empty() && matches!(wire.poll_send(context), Poll::Ready(Err(_)));
            if stuck { Poll::Ready(None) } else { wire.poll_gone(context).map(|()| None) }
        }
    })
    .await
}

/// The client of a connection, as it takes informational responses.
struct Client<T: Transport>(Rc<RefCell<Wire<T>>>);

impl<T: Transport> Sink for Client<T> {
    fn push(&self, head: Response<()>) {
        self.0.borrow_mut().output.informational(&head);
    }
}

/// Reads and discards the rest of a request body that was not read to its end. False if the connection must be
/// closed instead.
async fn drained<T: Transport>(wire: &RefCell<Wire<T>>) -> bool {
    if wire.borrow().inbound.is_done() {
        return true;
    }
    let mut room = wire::SKIPPED_BYTES;
    poll_fn(|context| wire.borrow_mut().poll_skip(context, &mut room)).await
}

impl<T: Transport> UnderWay for RefCell<Wire<T>> {
    fn idle_since(&self) -> Option<Instant> {
        self.borrow().idle_since()
    }

    /// HTTP/1.1 tells the client with `Connection: close` on the next response.
    fn tell(&self) {}

    fn end(&self) {
        self.borrow_mut().last = true;
    }
}
