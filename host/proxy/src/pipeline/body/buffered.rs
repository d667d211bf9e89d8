//! Buffered access: one call with the whole body.
//!
//! The received body is kept until the call has ended, so that `on_failure = "skip"` can pass it on unchanged.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};

use witgate_config::model::OnFailure;
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::replay::memory::{Purpose, Reserved};

use super::caller::Caller;
use super::coding::Coding;
use super::undecodable::Origin;
use super::{Made, pass_trailers, unfit, unread};

/// Collects a body, calls the binding with it, and returns what the binding made of it.
///
/// # Errors
/// `BodyTooLarge` if a request's body exceeds the binding's limit, `Overloaded` with `Retry-After` if the gateway
/// has no memory left for a request's body, `PluginFailed`, the fault of [`Origin::refusal`], or the error of the
/// body itself.
pub(super) async fn run(
    mut caller: Caller,
    coding: Coding,
    origin: Origin,
    body: Body,
) -> Result<Made, Fault> {
    let limit = caller.plugin.limits().body;
    let memory = caller.memory();
    let original =
        collect(body, limit, memory.as_ref()).await.map_err(|error| unread(error, caller.of_response()))?;
    let original = match original {
        Collected::Whole(whole) => whole,
        Collected::Over(body) => return over(&caller, body).map(Made::Untouched),
    };
    let content = match coding {
        Coding::Identity => original.content.clone(),
        // An empty body is in no coding, whatever the head declares.
        _ if original.content.is_empty() => Bytes::new(),
        coded => {
            let refuse = origin.refusal(&caller, coded);
            let decoded = coded.undo(Body::from(original.content.clone()), refuse);
            match collect(decoded, limit, memory.as_ref()).await {
                Ok(Collected::Whole(decoded)) => decoded.content,
                Ok(Collected::Over(_)) => return over(&caller, original.into_body()).map(Made::Untouched),
                Err(error) => {
                    let fault = unread(error, caller.of_response());
                    let skips = caller.plugin.on_failure() == OnFailure::Skip;
                    // Without memory the request is refused whatever the binding's failure policy is.
                    if skips && fault.kind != FaultKind::Overloaded {
                        return Ok(Made::Untouched(original.into_body()));
                    }
                    return Err(fault);
                }
            }
        }
    };
    if let Some(trailers) = &original.trailers {
        caller.show_trailers(trailers);
    }
    let Some(result) = caller.call(content.clone(), true).await? else {
        return Ok(Made::Untouched(original.into_body()));
    };
    let made =
        Whole { content: result.output.unwrap_or(content), trailers: original.trailers.map(pass_trailers) };
    // HTTP/1.1 does not allow `Content-Length` together with trailers (RFC 9112 section 7.1.2).
    let length = made.trailers.is_none().then_some(made.content.len());
    Ok(Made::New { body: made.into_body(), length })
}

/// Handles a body over the limit. A request's body is refused as the client's mistake, whatever the binding's
/// `on_failure`.
fn over(caller: &Caller, body: Body) -> Result<Body, Fault> {
    if !caller.of_response() {
        return Err(Fault::new(FaultKind::BodyTooLarge));
    }
    unfit(&*caller.plugin, caller.phase(), "the body is larger than `body_limit`")?;
    Ok(body)
}

/// A body that is completely in memory.
struct Whole {
    content: Bytes,
    trailers: Option<HeaderMap>,
}

impl Whole {
    fn into_body(self) -> Body {
        match self.trailers {
            None => Body::from(self.content),
            Some(trailers) => {
                let frames = [Frame::data(self.content), Frame::trailers(trailers)];
                Body::wrap(StreamBody::new(stream::iter(frames.map(Ok::<_, BodyError>))))
            }
        }
    }
}

/// A body that was collected, or one over the limit, which can still be read from its beginning.
enum Collected {
    Whole(Whole),
    Over(Body),
}

async fn collect(mut body: Body, limit: usize, memory: Option<&Reserved>) -> Result<Collected, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Ok(Collected::Over(body));
    }
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                if let Some(memory) = memory.filter(|memory| !memory.take(data.len())) {
                    memory.memory().refuse(Purpose::Plugin);
                    return Err(Box::new(out_of_memory()));
                }
                // Most bodies are one frame, which is not copied.
                if first.is_empty() && more.is_empty() {
                    first = data;
                } else {
                    more.extend_from_slice(&std::mem::take(&mut first));
                    more.extend_from_slice(&data);
                }
                if first.len() + more.len() > limit {
                    let read = if more.is_empty() { first } else { more.freeze() };
                    return Ok(Collected::Over(prepend(read, body)));
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let content = if more.is_empty() { first } else { more.freeze() };
    Ok(Collected::Whole(Whole { content, trailers }))
}

/// The fault of a request whose body must be in memory as a whole while the gateway has no memory left for it.
pub(super) fn out_of_memory() -> Fault {
    Fault::new(FaultKind::Overloaded)
        .cause("the request bodies in memory have reached `gateway.body_memory`")
        .header(RETRY_AFTER, HeaderValue::from_static("1"))
}

/// A body with the part that was already read put back at its beginning.
fn prepend(read: Bytes, rest: Body) -> Body {
    let frames = stream::unfold((Some(read), rest), async |(read, mut rest)| match read {
        Some(read) => Some((Ok(Frame::data(read)), (None, rest))),
        None => rest.frame().await.map(|frame| (frame, (None, rest))),
    });
    Body::wrap(StreamBody::new(frames))
}
