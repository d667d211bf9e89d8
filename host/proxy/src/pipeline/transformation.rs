//! The transformation contract: changes to heads and bodies of requests and responses.
//!
//! Down, every binding sees the head before any sees the body, so that one that answers early does so before the
//! body is asked for. Up, in reverse order, each binding takes its turn on head and body of the response before the
//! next sees either, so that a failure in a body reaches the bindings further out as the response it becomes.
//!
//! Changes are applied all together or not at all. A binding that failed and is skipped, or that answered by itself,
//! has not seen the request: it is not called on the way up. Switching protocols (101) is not a final response and is
//! shown to nobody.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode};
use witgate_config::model::Gateway;

use crate::body::Body;
use crate::fault::Fault;
use crate::head::RequestHead;
use crate::pipeline::body;
use crate::pipeline::call::{self, Phase};
use crate::pipeline::exchange::{Context, Exchange, Transformed};
use crate::pipeline::plugin::{
    Call, Plugin, PluginLimits, RequestChanges, RequestOutcome, ResponseChanges, ResponseHead,
    ResponseOutcome,
};
use crate::pipeline::validate::{self, Direction, Edit, Invalid};
use crate::router::Route;

/// Shows the head of the request to every binding; the response of one that answers by itself.
///
/// # Errors
/// `PluginFailed`.
pub(super) async fn request(exchange: &mut Exchange, route: &Route) -> Result<Option<Response<Body>>, Fault> {
    for (binding, plugin) in route.transformation.iter().enumerate() {
        let gateway = &exchange.snapshot.config.gateway;
        let answer = call::call(
            &mut exchange.record.plugins,
            plugin,
            Phase::Request,
            || plugin.transform_request(Call { head: &exchange.head, snapshot: &exchange.snapshot }),
            |outcome| RequestTurn::check(outcome, &exchange.head, gateway, plugin.limits()),
        );
        match answer.await? {
            None => {}
            Some(RequestTurn::Respond(response)) => return Ok(Some(response)),
            Some(RequestTurn::Proceed(edit)) => {
                let context = Context::new(edit.apply(&mut exchange.head));
                exchange.transformations.push(Transformed { binding, context });
            }
        }
    }
    Ok(None)
}

/// Shows the response to the bindings that have seen the request, in reverse.
///
/// # Errors
/// `PluginFailed`; the bindings that have not had their turn yet are still in the exchange.
pub(super) async fn response(
    exchange: &mut Exchange,
    route: &Route,
    mut response: Response<Body>,
) -> Result<Response<Body>, Fault> {
    // A plugin may have made a HEAD of another method: then the length speaks of bytes that do not follow.
    if exchange.head.upstream_method == Some(Method::HEAD) && exchange.head.method != Method::HEAD {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    while let Some(transformed) = exchange.transformations.pop() {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        let plugin = &route.transformation[transformed.binding];
        response = turn(exchange, plugin, transformed.context, response).await?;
    }
    Ok(response)
}

/// One binding's turn on a response.
async fn turn(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Plugin>,
    context: Context,
    response: Response<Body>,
) -> Result<Response<Body>, Fault> {
    let response = if plugin.interest().response {
        match head_turn(exchange, plugin, &context, response).await? {
            ControlFlow::Continue(response) => response,
            ControlFlow::Break(own) => return Ok(own),
        }
    } else {
        response
    };
    body::response(exchange, plugin, context, response).await
}

/// One binding's turn on the head of a response; the end of its turn if it answers with a response of its own.
async fn head_turn(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Plugin>,
    context: &Context,
    response: Response<Body>,
) -> Result<ControlFlow<Response<Body>, Response<Body>>, Fault> {
    let (mut parts, body) = response.into_parts();
    // The headers move into the view and back: nothing is copied.
    let view = Arc::new(ResponseHead {
        status: parts.status.as_u16(),
        headers: std::mem::take(&mut parts.headers),
        trailers: None,
        local: exchange.local_response,
    });
    let limits = plugin.limits();
    let answer = call::call(
        &mut exchange.record.plugins,
        plugin,
        Phase::Response,
        || {
            let call = Call { head: &exchange.head, snapshot: &exchange.snapshot };
            plugin.transform_response(call, Arc::clone(&view), context.get())
        },
        |outcome| ResponseTurn::check(outcome, view.headers.len(), limits),
    );
    let answer = answer.await?;
    parts.headers = Arc::try_unwrap(view).map_or_else(|shared| shared.headers.clone(), |view| view.headers);
    match answer {
        None => {}
        Some(ResponseTurn::Respond(own)) => {
            exchange.local_response = true;
            return Ok(ControlFlow::Break(own));
        }
        Some(ResponseTurn::Proceed { edits, status, context: new }) => {
            validate::apply(edits, &mut parts.headers);
            parts.status = status.unwrap_or(parts.status);
            if let Some(new) = new {
                context.set(new);
            }
        }
    }
    Ok(ControlFlow::Continue(Response::from_parts(parts, body)))
}

/// An answer to a request's head that holds.
enum RequestTurn {
    Proceed(RequestEdit),
    Respond(Response<Body>),
}

struct RequestEdit {
    edits: Vec<Edit>,
    target: Option<PathAndQuery>,
    method: Option<Method>,
    context: Bytes,
}

impl RequestTurn {
    fn check(
        outcome: RequestOutcome,
        head: &RequestHead,
        gateway: &Gateway,
        limits: PluginLimits,
    ) -> Result<Self, Invalid> {
        let RequestChanges { headers, path, method, context } = match outcome {
            RequestOutcome::Respond(response) => {
                return validate::response(response).map(RequestTurn::Respond);
            }
            RequestOutcome::Proceed(changes) => changes,
        };
        Ok(RequestTurn::Proceed(RequestEdit {
            edits: validate::edits(headers, head.headers.len(), Direction::Request(gateway))?,
            target: path.map(|path| validate::target(&path, gateway)).transpose()?,
            method: method.map(|method| validate::method(&method)).transpose()?,
            context: within(context, limits)?,
        }))
    }
}

impl RequestEdit {
    /// Applies everything; gives the context back.
    fn apply(self, head: &mut Arc<RequestHead>) -> Bytes {
        if !self.edits.is_empty() || self.target.is_some() || self.method.is_some() {
            let head = Arc::make_mut(head);
            validate::apply(self.edits, &mut head.headers);
            head.upstream_target = self.target.or(head.upstream_target.take());
            head.upstream_method = self.method.or(head.upstream_method.take());
        }
        self.context
    }
}

/// An answer to a response's head that holds.
enum ResponseTurn {
    Proceed { edits: Vec<Edit>, status: Option<StatusCode>, context: Option<Bytes> },
    Respond(Response<Body>),
}

impl ResponseTurn {
    fn check(outcome: ResponseOutcome, present: usize, limits: PluginLimits) -> Result<Self, Invalid> {
        let ResponseChanges { headers, status, context } = match outcome {
            ResponseOutcome::Respond(response) => {
                return validate::response(response).map(ResponseTurn::Respond);
            }
            ResponseOutcome::Proceed(changes) => changes,
        };
        Ok(ResponseTurn::Proceed {
            edits: validate::edits(headers, present, Direction::Response)?,
            status: status.map(validate::status).transpose()?,
            context: context.map(|context| within(context, limits)).transpose()?,
        })
    }
}

/// A context that is not larger than it may be.
pub(super) fn within(context: Bytes, limits: PluginLimits) -> Result<Bytes, Invalid> {
    if context.len() > limits.context {
        return Err(Invalid::new("the context is larger than `context_limit`"));
    }
    Ok(context)
}
