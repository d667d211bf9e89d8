//! Sends a response to the client: its head and the first piece of its body in one write, the rest as fast as the
//! client reads.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame};
use witgate_exchange::body::{Body, BodyError};
use witgate_wire::http1::head::ConnectionOptions;
use witgate_wire::http1::write::{Framing, Plan};
use witgate_wire::socket::Transport;

use super::wire::{SKIPPED_BYTES, Wire};

/// How the sending of a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The response is complete, and the connection is kept alive.
    Kept,
    /// The response is complete, and it was the last on its connection.
    Last,
    /// The protocol is switched.
    Switched,
    /// The client is gone.
    Gone,
    /// The body failed before its end: the client must not mistake what it has for a complete response.
    Broken,
}

/// Sends a response and leaves its body empty. `closing`: it is to be the last on the connection.
pub(super) async fn send<T: Transport>(
    wire: &RefCell<Wire<T>>,
    response: &mut Response<Body>,
    options: &ConnectionOptions,
    closing: bool,
) -> Sent {
    let plan = {
        let mut wire = wire.borrow_mut();
        let plan = plan(&wire, response, options, closing);
        wire.inbound.expects = false;
        wire.output.head(response, &plan);
        plan
    };
    if plan.framing != Framing::Nothing
        && let Err(sent) = send_body(wire, response.body_mut(), &plan).await
    {
        return sent;
    }
    *response.body_mut() = Body::Empty;
    match poll_fn(|context| wire.borrow_mut().poll_send(context)).await {
        Err(_) => Sent::Gone,
        Ok(()) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Sent::Switched,
        Ok(()) if plan.keep_alive => Sent::Kept,
        Ok(()) => Sent::Last,
    }
}

fn plan<T: Transport>(
    wire: &Wire<T>,
    response: &Response<Body>,
    options: &ConnectionOptions,
    closing: bool,
) -> Plan {
    let status = response.status();
    let bodiless = options.is_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match response.body().size_hint().exact() {
        _ if bodiless => Framing::Nothing,
        Some(length) => Framing::Length(length),
        None if options.version == Version::HTTP_10 => Framing::Close,
        None => Framing::Chunked,
    };
    // The connection cannot be kept alive if the unread rest of the request body cannot be skipped. A client that
    // was never sent `100 Continue` may send its body or not, so the next bytes are ambiguous; and a long rest is
    // not worth reading.
    let inbound = &wire.inbound;
    let lost = inbound.expects && !inbound.asked || !wire.body_held && inbound.is_over(SKIPPED_BYTES);
    let said = response.headers().get(CONNECTION).is_some_and(|said| said == "close");
    let keep_alive = options.keep_alive && !closing && !lost && !said && framing != Framing::Close;
    let trailers = options.trailers && framing == Framing::Chunked;
    Plan { version: options.version, framing, keep_alive, trailers }
}

async fn send_body<T: Transport>(wire: &RefCell<Wire<T>>, body: &mut Body, plan: &Plan) -> Result<(), Sent> {
    let framing = plan.framing;
    let mut left = match framing {
        Framing::Length(length) => length,
        _ => u64::MAX,
    };
    let mut ended = false;
    while !ended && !body.is_end_stream() {
        let Some(frame) = next_frame(wire, body).await? else { break };
        match frame.map_err(|_| Sent::Broken)?.into_data() {
            Ok(data) if data.is_empty() => continue,
            Ok(data) => {
                left = left.checked_sub(data.len() as u64).ok_or(Sent::Broken)?;
                ended = body.is_end_stream();
                wire.borrow_mut().output.data(data, framing, ended);
            }
            Err(frame) if framing == Framing::Chunked => {
                let trailers = frame.into_trailers().ok().filter(|_| plan.trailers);
                wire.borrow_mut().output.end(trailers.as_ref());
                ended = true;
            }
            Err(_) => continue,
        }
        if !ended {
            poll_fn(|context| wire.borrow_mut().poll_send(context)).await.map_err(|_| Sent::Gone)?;
        }
    }
    match framing {
        Framing::Length(_) if left > 0 => return Err(Sent::Broken),
        Framing::Chunked if !ended => wire.borrow_mut().output.end(None),
        _ => {}
    }
    Ok(())
}

/// The next frame of the body. Meanwhile writes what is buffered, and fails if the client leaves.
async fn next_frame<T: Transport>(
    wire: &RefCell<Wire<T>>,
    body: &mut Body,
) -> Result<Option<Result<Frame<Bytes>, BodyError>>, Sent> {
    poll_fn(|context| {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
            return Poll::Ready(Ok(frame));
        }
        let mut wire = wire.borrow_mut();
        let stuck = !wire.output.is_empty() && matches!(wire.poll_send(context), Poll::Ready(Err(_)));
        if stuck || wire.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Sent::Gone));
        }
        Poll::Pending
    })
    .await
}
