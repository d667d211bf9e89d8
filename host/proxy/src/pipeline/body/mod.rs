//! Bodies for the bindings that declare them; all others stream past untouched.
//!
//! What a plugin sees is decoded, and what it is given to see it gives on: the head stops promising what held for the
//! bytes as they were (length, coding, digests, strong validators). Several bindings chain: each sees what the one
//! before it made. No instance is held while the next piece is waited for: every piece is a call of its own.
//!
//! A body that a binding declared is always shown to it, also one that is empty, whatever the method: a request or response
//! without content makes one call, which has no bytes and is the last. So does a request that asks to switch protocols: the
//! upstream may ignore its `Upgrade` and serve it, so that it must not get past a validator of bodies. Responses to HEAD, and
//! those with status 204, 205 or 304, have no body (RFC 9110 section 6.4.1) and make no calls.
//!
//! A partial response (206) cannot be shown as what it is not: since `Range` is not sent where a binding declares the
//! response's body, an upstream that answers 206 all the same is a failure of the call.

mod buffered;
mod caller;
mod coding;
mod representation;
mod streamed;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use witgate_config::model::OnFailure;
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::contracts::{Binding, BodyAccess, Phase, ResponseHead, Transformation};
use witgate_exchange::fault::{Fault, FaultKind};

use crate::pipeline::call;
use crate::pipeline::exchange::{Context, Exchange};
use crate::router::Route;
use caller::Caller;
use coding::Coding;

/// Takes the body of a request through every binding that saw the head and declared it.
///
/// # Errors
/// `BodyTooLarge`, `PluginFailed`, or what the body itself failed of.
pub(super) async fn request(exchange: &mut Exchange, route: &Route, mut body: Body) -> Result<Body, Fault> {
    for index in 0..exchange.transformations.len() {
        let transformed = &exchange.transformations[index];
        let plugin = &route.transformation[transformed.binding];
        let access = plugin.interest().request_body;
        if access == BodyAccess::None {
            continue;
        }
        let context = transformed.context.clone();
        let coding = Coding::of_message(&exchange.facts.head.headers);
        let caller = Caller::new(exchange, plugin, context, None);
        body = match show(access, caller, coding, body).await? {
            Made::Untouched(body) => body,
            Made::New { body, length } => {
                representation::change(&mut Arc::make_mut(&mut exchange.facts.head).headers, length);
                body
            }
        };
    }
    Ok(body)
}

/// Says what a binding that declares the response's body asks of the request: a whole representation, in a coding
/// that can be undone.
pub(super) fn prepare(exchange: &mut Exchange, route: &Route) {
    let declared =
        |binding: usize| route.transformation[binding].interest().response_body != BodyAccess::None;
    if exchange.transformations.iter().any(|transformed| declared(transformed.binding)) {
        representation::ask_for_whole(&mut Arc::make_mut(&mut exchange.facts.head).headers);
    }
}

/// Takes the body of a response through one binding.
///
/// # Errors
/// `PluginFailed`, or what the body itself failed of.
pub(super) async fn response(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Transformation>,
    context: Context,
    response: Response<Body>,
) -> Result<Response<Body>, Fault> {
    let access = plugin.interest().response_body;
    if access == BodyAccess::None {
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
            };
            let caller = Caller::new(exchange, plugin, context, Some(Arc::new(view)));
            match show(access, caller, Coding::of_message(&parts.headers), body).await? {
                Made::Untouched(body) => body,
                Made::New { body, length } => {
                    representation::change(&mut parts.headers, length);
                    body
                }
            }
        }
    };
    Ok(Response::from_parts(parts, body))
}

/// What a binding made of a body.
enum Made {
    /// The body as it was, to which the head still belongs.
    Untouched(Body),
    /// A body of its own; its length is known if it is at hand.
    New { body: Body, length: Option<usize> },
}

/// Shows a body to a binding, in the way it declared.
async fn show(access: BodyAccess, caller: Caller, coding: Option<Coding>, body: Body) -> Result<Made, Fault> {
    if access != BodyAccess::None && body.is_end_stream() {
        return empty(caller).await;
    }
    let Some(coding) = coding else {
        unfit(&*caller.plugin, caller.phase(), "the body's coding is unknown or stacked")?;
        return Ok(Made::Untouched(body));
    };
    match access {
        BodyAccess::None => Ok(Made::Untouched(body)),
        BodyAccess::Buffered => buffered::run(caller, coding, body).await,
        BodyAccess::Streamed => Ok(streamed::run(caller, coding, body)),
    }
}

/// Shows an empty body, by one call for either access. No bytes are waited for, so the length of what the binding writes is
/// known before the head is sent on. No bytes are in any coding, so `Content-Encoding` is not looked at. Where the binding
/// writes nothing either, the head still describes the body as it was.
async fn empty(mut caller: Caller) -> Result<Made, Fault> {
    match caller.call(Bytes::new(), true).await?.and_then(|result| result.output) {
        Some(output) if !output.is_empty() => {
            let length = Some(output.len());
            Ok(Made::New { body: Body::from(output), length })
        }
        _ => Ok(Made::Untouched(Body::Empty)),
    }
}

/// What a response's body is to plugins.
enum Shape {
    /// There is none, and the head does not speak of one.
    Absent,
    /// There is none, but the head speaks of the one that GET would have brought.
    HeadOnly,
    /// A piece of a representation.
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

/// A body that cannot be shown to a binding: a failed call, though none was made and the plugin is not to blame.
///
/// # Errors
/// `PluginFailed` where the binding's failures deny.
fn unfit(binding: &dyn Binding, phase: Phase, why: &str) -> Result<(), Fault> {
    match binding.on_failure() {
        OnFailure::Skip => Ok(()),
        OnFailure::Deny => Err(call::denied(binding, phase, why)),
    }
}

/// The fault of a body that could not be read to its end before the head was sent on.
fn unread(error: BodyError, of_response: bool) -> Fault {
    match error.downcast::<Fault>() {
        Ok(fault) => *fault,
        Err(error) => {
            let kind = if of_response { FaultKind::UpstreamReset } else { FaultKind::ClientGone };
            Fault::new(kind).cause(error.to_string())
        }
    }
}

/// Trailers as they go on: digests no longer hold.
fn pass_trailers(mut trailers: HeaderMap) -> HeaderMap {
    representation::drop_digests(&mut trailers);
    trailers
}
