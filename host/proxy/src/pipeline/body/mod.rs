//! Bodies for the bindings that declare them. All other bodies are streamed unchanged.
//!
//! A plugin sees the decoded body, and the decoded body is passed on. Therefore the head loses everything that
//! described the received bytes: length, coding, digests and strong validators. Several bindings form a chain:
//! each sees the output of the one before. Every piece is a call of its own, so no instance is held while the next
//! piece is waited for.
//!
//! A binding is always called with a body that it declared, also with an empty one, whatever the method: a request
//! or response without content makes one call, which has no bytes and is the last. This includes a request that
//! asks to switch protocols: the upstream may ignore its `Upgrade` and serve it, so it must not bypass a validator
//! of bodies. Responses to HEAD, and those with status 204, 205 or 304, have no body (RFC 9110 section 6.4.1) and
//! make no calls.
//!
//! A partial response (206) cannot be shown as a whole one. `Range` is not sent if a binding declares the
//! response's body, so an upstream that responds with 206 nevertheless counts as a failed call.

mod buffered;
mod caller;
mod coding;
pub(super) mod reader;
mod representation;
mod streamed;
mod undecodable;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use witgate_config::model::OnFailure;
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::contracts::{Binding, BodyAccess, Phase, ResponseHead, Transformation};
use witgate_exchange::fault::{Fault, FaultKind};

use crate::pipeline::call;
use crate::pipeline::exchange::{Context, Exchange, Transformed};
use crate::router::Route;
use caller::Caller;
pub(super) use undecodable::Coded;

/// Takes the body of a request through every binding that has seen the head and declares the body.
///
/// # Errors
/// `BodyTooLarge`, `PluginFailed`, `UnsupportedEncoding` or `BadRequest` for a body that cannot be decoded, or the error of
/// the body itself.
pub(super) async fn request(exchange: &mut Exchange, route: &Route, mut body: Body) -> Result<Body, Fault> {
    for index in 0..exchange.transformations.len() {
        let transformed = &exchange.transformations[index];
        let plugin = &route.transformation[transformed.binding];
        let access = plugin.interest().request_body;
        if access == BodyAccess::None {
            continue;
        }
        let context = transformed.context.clone();
        let coded = Coded::of_request(exchange);
        let caller = Caller::new(exchange, plugin, context, None);
        body = match show(access, caller, coded, body).await? {
            Made::Untouched(body) => body,
            Made::New { body, length } => {
                exchange.request_coding_by = None;
                representation::change(&mut Arc::make_mut(&mut exchange.facts.head).headers, length);
                body
            }
        };
    }
    Ok(body)
}

/// If a binding declares the response's body, makes the request ask for a whole representation in a coding that
/// can be decoded.
pub(super) fn prepare(exchange: &mut Exchange, route: &Route) {
    let declared = |transformed: &Transformed| {
        let interest = route.transformation[transformed.binding].interest();
        interest.response_body != BodyAccess::None && !transformed.context.declines_body()
    };
    if exchange.transformations.iter().any(declared) {
        representation::ask_for_whole(&mut Arc::make_mut(&mut exchange.facts.head).headers);
    }
}

/// Takes the body of a response through one binding. `coded` is how its bytes are coded.
///
/// # Errors
/// `PluginFailed`, `UpstreamProtocol`, or the error of the body itself.
pub(super) async fn response(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Transformation>,
    context: Context,
    coded: Coded,
    response: Response<Body>,
) -> Result<Response<Body>, Fault> {
    let access = plugin.interest().response_body;
    if access == BodyAccess::None || context.declines_body() {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let body = match shape(&exchange.facts.head.method, parts.status) {
        Shape::Absent => body,
        Shape::HeadOnly => {
            representation::change(&mut parts.headers, None);
            body
        }
        Shape::Partial => {
            unfit(&**plugin, Phase::ResponseBody, "the upstream answered with a part")?;
            body
        }
        Shape::Whole => {
            let view = ResponseHead {
                status: parts.status.as_u16(),
                headers: parts.headers.clone(),
                trailers: None,
                local: exchange.facts.local_response,
                origin: exchange.facts.origin(),
            };
            let caller = Caller::new(exchange, plugin, context, Some(Arc::new(view)));
            match show(access, caller, coded, body).await? {
                Made::Untouched(body) => body,
                Made::New { body, length } => {
                    exchange.response_coding_by = None;
                    representation::change(&mut parts.headers, length);
                    body
                }
            }
        }
    };
    Ok(Response::from_parts(parts, body))
}

/// The result of showing a body to a binding.
enum Made {
    /// The received body, which the head still describes.
    Untouched(Body),
    /// A new body. Its length is known if the body is completely in memory.
    New { body: Body, length: Option<usize> },
}

/// Shows a body to a binding, with the access that it declared.
async fn show(access: BodyAccess, caller: Caller, coded: Coded, body: Body) -> Result<Made, Fault> {
    if access != BodyAccess::None && body.is_end_stream() {
        return empty(caller).await;
    }
    let Some(coding) = coded.coding else {
        return match caller.plugin.on_failure() {
            OnFailure::Skip => Ok(Made::Untouched(body)),
            OnFailure::Deny => Err(coded.origin.unknown(&caller)),
        };
    };
    match access {
        BodyAccess::None => Ok(Made::Untouched(body)),
        BodyAccess::Buffered => buffered::run(caller, coding, coded.origin, body).await,
        BodyAccess::Streamed => Ok(streamed::run(caller, coding, coded.origin, body)),
    }
}

/// Shows an empty body, by one call for either access. No bytes are waited for, so the length of the binding's
/// output is known before the head is sent. An empty body is in no coding, so `Content-Encoding` is ignored. If
/// the output is empty too, the head still describes the body.
async fn empty(mut caller: Caller) -> Result<Made, Fault> {
    match caller.call(Bytes::new(), true).await?.and_then(|result| result.output) {
        Some(output) if !output.is_empty() => {
            let length = Some(output.len());
            Ok(Made::New { body: Body::from(output), length })
        }
        _ => Ok(Made::Untouched(Body::Empty)),
    }
}

/// What kind of body a response has.
enum Shape {
    /// There is none, and the head does not describe one.
    Absent,
    /// There is none, but the head describes the body that GET would get.
    HeadOnly,
    /// A part of a representation.
    Partial,
    /// A whole representation.
    Whole,
}

fn shape(method: &Method, status: StatusCode) -> Shape {
    match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT => Shape::Absent,
        StatusCode::NOT_MODIFIED => Shape::HeadOnly,
        _ if method == Method::HEAD => Shape::HeadOnly,
        StatusCode::PARTIAL_CONTENT => Shape::Partial,
        _ => Shape::Whole,
    }
}

/// The outcome for a body that cannot be shown to a binding. It is treated as a failed call, although no call was
/// made and the plugin is not to blame.
///
/// # Errors
/// `PluginFailed` if the binding's `on_failure` is `deny`.
fn unfit(binding: &dyn Binding, phase: Phase, why: &str) -> Result<(), Fault> {
    match binding.on_failure() {
        OnFailure::Skip => Ok(()),
        OnFailure::Deny => Err(call::denied(binding, phase, why)),
    }
}

/// The fault of a body that failed before the head was sent.
fn unread(error: BodyError, of_response: bool) -> Fault {
    match error.downcast::<Fault>() {
        Ok(fault) => *fault,
        Err(error) => {
            let kind = if of_response { FaultKind::UpstreamReset } else { FaultKind::ClientGone };
            Fault::new(kind).cause(error.to_string())
        }
    }
}

/// The trailers to pass on: without digests, which are no longer correct.
fn pass_trailers(mut trailers: HeaderMap) -> HeaderMap {
    representation::drop_digests(&mut trailers);
    trailers
}
