//! The transformation contract: changes to heads and bodies of requests and responses.
//!
//! On the way down, every binding sees the head before any binding sees the body, so that a binding can respond
//! before the body is requested from the client. On the way up, in reverse order, each binding sees the head and
//! the body of the response before the next binding sees either. A failure in a body therefore becomes a response
//! that the remaining bindings see.
//!
//! The changes of a call are applied together or not at all. A binding that failed and is skipped, or that
//! responded by itself, is not called on the way up. A response that switches protocols (101) is not final and is
//! shown to no binding.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use witgate_config::model::Gateway;
use witgate_exchange::body::Body;
use witgate_exchange::composed::Seen;
use witgate_exchange::contracts::{
    Binding, BodyAccess, Call, Function, Phase, PluginLimits, RequestChanges, RequestOutcome,
    ResponseChanges, ResponseHead, ResponseOrigin, ResponseOutcome, Transformation,
};
use witgate_exchange::credentials::Credentials;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;
use witgate_exchange::head::RequestHead;

use crate::pipeline::body;
use crate::pipeline::call;
use crate::pipeline::exchange::{Context, Exchange, Transformed};
use crate::pipeline::remembered::{Lookup, MissToken, Question, Rememberable};
use crate::pipeline::validate::{self, Direction, Edit, Invalid};
use crate::router::Route;

/// Calls every binding with the head of the request. Returns the response if a binding responds by itself.
///
/// # Errors
/// `PluginFailed`.
pub(super) async fn request(exchange: &mut Exchange, route: &Route) -> Result<Option<Response<Body>>, Fault> {
    for (binding, plugin) in route.transformation.iter().enumerate() {
        if exchange.leaves_out(&**plugin) {
            continue;
        }
        match request_turn(exchange, plugin, route.config.merge_slashes).await? {
            None => {}
            Some(RequestTurn::Respond(response)) => return Ok(Some(response)),
            Some(RequestTurn::Proceed(edit)) => {
                if sets_coding(&edit.edits) {
                    exchange.request_coding_by = Some(Arc::clone(plugin.name()));
                }
                let declines_body = edit.declines_body;
                let applied = RequestEdit::apply(edit, &mut exchange.facts.head, plugin.credentials());
                let context = Context::new(applied);
                if declines_body {
                    context.decline_body();
                }
                exchange.transformations.push(Transformed { binding, context });
            }
        }
    }
    Ok(None)
}

/// Calls one binding with the head of a request. `merge`: whether the route merges slashes.
async fn request_turn(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Transformation>,
    merge: bool,
) -> Result<Option<RequestTurn>, Fault> {
    let present = exchange.facts.head.headers.len();
    let question = Question::new(&**plugin, Function::OnRequest, &exchange.facts.head, &exchange.snapshot);
    let miss = match question.recall::<RequestEdit>() {
        Lookup::Hit(edit) if validate::has_room(present, edit.edits.len()) => {
            let Facts { record, head, .. } = &mut exchange.facts;
            call::note_recalled(record, head, &**plugin, Phase::Request);
            return Ok(Some(RequestTurn::Proceed(edit)));
        }
        Lookup::Hit(_) => MissToken::default(),
        Lookup::Miss(miss) => miss,
    };
    let mut pure = false;
    let answer = call::call(
        &mut exchange.facts.record.plugins,
        &**plugin,
        Phase::Request,
        || plugin.transform_request(Call { head: &exchange.facts.head, fetch: &exchange.snapshot }),
        |answer| {
            pure = answer.pure;
            let gateway = &exchange.snapshot.config.gateway;
            RequestTurn::check(answer.content, present, (gateway, merge), &**plugin)
        },
    );
    let turn = answer.await?;
    if let Some(RequestTurn::Proceed(edit)) = &turn
        && pure
    {
        question.remember(&miss, edit);
    }
    Ok(turn)
}

/// What remains of the way up after all remembered results were applied.
pub(super) enum ResponseProgress {
    /// Nothing.
    Nothing(Response<Body>),
    /// The bindings that are still in the exchange must be called. If no remembered result was found for the first
    /// of them, the token allows its result to be remembered.
    Turns(Response<Body>, Option<MissToken>),
}

/// Handles the bindings that need no call, because they declare no interest in responses or because their result
/// is remembered. It is separate from [`response`] because it does not wait for anything.
pub(super) fn recall_response(
    exchange: &mut Exchange,
    route: &Route,
    mut response: Response<Body>,
) -> ResponseProgress {
    // If a plugin replaced another method by HEAD, `Content-Length` describes bytes that do not follow.
    if exchange.facts.head.upstream_method == Some(Method::HEAD) && exchange.facts.head.method != Method::HEAD
    {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    while let Some(transformed) = exchange.transformations.pop() {
        let plugin = &route.transformation[transformed.binding];
        let interest = plugin.interest();
        let access = match transformed.context.declines_body() {
            true => BodyAccess::None,
            false => interest.response_body,
        };
        let asked = match access {
            _ if response.status() == StatusCode::SWITCHING_PROTOCOLS => continue,
            BodyAccess::None if !interest.response => continue,
            BodyAccess::None => match recall_head(exchange, plugin, &transformed.context, &mut response) {
                None => continue,
                asked => asked,
            },
            BodyAccess::Buffered | BodyAccess::Streamed => None,
        };
        exchange.transformations.push(transformed);
        return ResponseProgress::Turns(response, asked);
    }
    ResponseProgress::Nothing(response)
}

/// Applies the remembered result of one binding to the head of a response. If there is none, returns the token
/// that allows the result of a call to be remembered.
fn recall_head(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Transformation>,
    context: &Context,
    response: &mut Response<Body>,
) -> Option<MissToken> {
    let view = ResponseHead {
        status: response.status().as_u16(),
        headers: std::mem::take(response.headers_mut()),
        trailers: None,
        local: exchange.facts.local_response,
        // A call that asks for it is not remembered.
        origin: ResponseOrigin::default(),
    };
    let recalled = response_question(exchange, plugin, &view, &context.get()).recall::<ResponseEdit>();
    let present = view.headers.len();
    *response.headers_mut() = view.headers;
    match recalled {
        Lookup::Hit(edit) if validate::has_room(present, edit.edits.len()) => {
            if sets_coding(&edit.edits) {
                exchange.response_coding_by = Some(Arc::clone(plugin.name()));
            }
            let mut status = response.status();
            let head = (&*exchange.facts.head, plugin.credentials());
            ResponseEdit::apply(edit, head, (&mut status, response.headers_mut()), context);
            *response.status_mut() = status;
            let Facts { record, head, .. } = &mut exchange.facts;
            call::note_recalled(record, head, &**plugin, Phase::Response);
            None
        }
        Lookup::Hit(_) => Some(MissToken::default()),
        Lookup::Miss(miss) => Some(miss),
    }
}

fn response_question<'a>(
    exchange: &'a Exchange,
    plugin: &'a Arc<dyn Transformation>,
    view: &'a ResponseHead,
    context: &'a [u8],
) -> Question<'a> {
    let question = Question::new(&**plugin, Function::OnResponse, &exchange.facts.head, &exchange.snapshot);
    Question { response: Some((view, context)), ..question }
}

/// Calls the bindings that are still in the exchange with the response, in reverse order. `asked` is the token to
/// remember the result of the first one, if a remembered result was already looked for.
///
/// # Errors
/// `PluginFailed`. The bindings that were not called yet are still in the exchange.
pub(super) async fn response(
    exchange: &mut Exchange,
    route: &Route,
    mut response: Response<Body>,
    mut asked: Option<MissToken>,
) -> Result<Response<Body>, Fault> {
    while let Some(transformed) = exchange.transformations.pop() {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        let plugin = &route.transformation[transformed.binding];
        response = turn(exchange, plugin, transformed.context, response, asked.take()).await?;
    }
    Ok(response)
}

/// Calls one binding with the head and the body of a response, as it declared.
async fn turn(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Transformation>,
    context: Context,
    mut response: Response<Body>,
    asked: Option<MissToken>,
) -> Result<Response<Body>, Fault> {
    // Found before the binding changes the head: the bytes that it is shown are in the coding that they came in.
    let coded = body::Coded::of_response(exchange, &response);
    if plugin.interest().response
        && let Some(miss) = asked.or_else(|| recall_head(exchange, plugin, &context, &mut response))
    {
        response = match head_turn(exchange, plugin, &context, response, &miss).await? {
            ControlFlow::Continue(response) => response,
            ControlFlow::Break(own) => return Ok(own),
        };
    }
    body::response(exchange, plugin, context, coded, response).await
}

/// Calls one binding with the head of a response. `Break` has the binding's own response, whose body it is not
/// called with.
async fn head_turn(
    exchange: &mut Exchange,
    plugin: &Arc<dyn Transformation>,
    context: &Context,
    response: Response<Body>,
    miss: &MissToken,
) -> Result<ControlFlow<Response<Body>, Response<Body>>, Fault> {
    let (mut parts, body) = response.into_parts();
    // The headers are moved into the view and back, and not copied.
    let view = Arc::new(ResponseHead {
        status: parts.status.as_u16(),
        headers: std::mem::take(&mut parts.headers),
        trailers: None,
        local: exchange.facts.local_response,
        origin: exchange.facts.origin(),
    });
    let given = context.get();
    let mut pure = false;
    let answer = call::call(
        &mut exchange.facts.record.plugins,
        &**plugin,
        Phase::Response,
        || {
            let call = Call { head: &exchange.facts.head, fetch: &exchange.snapshot };
            plugin.transform_response(call, Arc::clone(&view), given.clone())
        },
        |answer| {
            pure = answer.pure;
            ResponseTurn::check(answer.content, view.headers.len(), &**plugin)
        },
    );
    let answer = answer.await?;
    if let Some(ResponseTurn::Proceed(edit)) = &answer
        && pure
    {
        response_question(exchange, plugin, &view, &given).remember(miss, edit);
    }
    parts.headers = Arc::try_unwrap(view).map_or_else(|shared| shared.headers.clone(), |view| view.headers);
    match answer {
        None => {}
        Some(ResponseTurn::Respond(own)) => {
            exchange.facts.local_response = true;
            return Ok(ControlFlow::Break(own));
        }
        Some(ResponseTurn::Proceed(edit)) => {
            if sets_coding(&edit.edits) {
                exchange.response_coding_by = Some(Arc::clone(plugin.name()));
            }
            let head = (&*exchange.facts.head, plugin.credentials());
            ResponseEdit::apply(edit, head, (&mut parts.status, &mut parts.headers), context);
        }
    }
    Ok(ControlFlow::Continue(Response::from_parts(parts, body)))
}

/// Whether edits change `Content-Encoding`.
fn sets_coding(edits: &[Edit]) -> bool {
    edits.iter().any(|edit| *edit.name() == CONTENT_ENCODING)
}

/// A validated result for a request's head.
enum RequestTurn {
    Proceed(Rc<RequestEdit>),
    Respond(Response<Body>),
}

/// Validated changes of a request's head.
struct RequestEdit {
    edits: Vec<Edit>,
    target: Option<PathAndQuery>,
    method: Option<Method>,
    context: Bytes,
    declines_body: bool,
}

impl call::Decision for RequestTurn {
    fn in_words(&self) -> &'static str {
        match self {
            RequestTurn::Respond(_) => "responded",
            RequestTurn::Proceed(edit) if edit.is_empty() => "unchanged",
            RequestTurn::Proceed(_) => "changed",
        }
    }
}

impl RequestTurn {
    fn check(
        outcome: RequestOutcome,
        present: usize,
        (gateway, merge): (&Gateway, bool),
        binding: &dyn Binding,
    ) -> Result<Self, Invalid> {
        let RequestChanges { headers, path, method, context, declines_body } = match outcome {
            RequestOutcome::Respond(response) => {
                return validate::response(response).map(RequestTurn::Respond);
            }
            RequestOutcome::Proceed(changes) => changes,
        };
        Ok(RequestTurn::Proceed(Rc::new(RequestEdit {
            edits: validate::edits(headers, present, Direction::Request(gateway), binding.credentials())?,
            target: path
                .map(|path| validate::target(&path, (gateway, merge), binding.credentials()))
                .transpose()?,
            method: method.map(|method| validate::method(&method)).transpose()?,
            context: within(context, binding.limits())?,
            declines_body,
        })))
    }
}

impl RequestEdit {
    fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.target.is_none() && self.method.is_none()
    }

    /// Applies all changes and returns the context.
    fn apply(edit: Rc<Self>, head: &mut Arc<RequestHead>, credentials: &Credentials) -> Bytes {
        if !edit.is_empty() {
            let composed = validate::compose(&edit.edits, &Seen { head, response: None, credentials });
            let head = Arc::make_mut(head);
            if let Some(target) = &edit.target {
                validate::retarget(head, target.clone(), credentials);
            }
            head.upstream_method = edit.method.clone().or(head.upstream_method.take());
            match Rc::try_unwrap(edit) {
                Ok(own) => {
                    validate::apply(own.edits, composed, &mut head.headers);
                    return own.context;
                }
                Err(shared) => {
                    validate::apply(shared.edits.iter().cloned(), composed, &mut head.headers);
                    return shared.context.clone();
                }
            }
        }
        edit.context.clone()
    }
}

impl Rememberable for RequestEdit {
    fn size(&self) -> usize {
        let target = self.target.as_ref().map_or(0, |target| target.as_str().len());
        size_of::<Self>() + validate::size_of_edits(&self.edits) + target + self.context.len()
    }
}

/// A validated result for a response's head.
enum ResponseTurn {
    Proceed(Rc<ResponseEdit>),
    Respond(Response<Body>),
}

/// Validated changes of a response's head.
struct ResponseEdit {
    edits: Vec<Edit>,
    status: Option<StatusCode>,
    context: Option<Bytes>,
    declines_body: bool,
}

impl call::Decision for ResponseTurn {
    fn in_words(&self) -> &'static str {
        match self {
            ResponseTurn::Respond(_) => "responded",
            ResponseTurn::Proceed(edit) if edit.edits.is_empty() && edit.status.is_none() => "unchanged",
            ResponseTurn::Proceed(_) => "changed",
        }
    }
}

impl ResponseTurn {
    fn check(outcome: ResponseOutcome, present: usize, binding: &dyn Binding) -> Result<Self, Invalid> {
        let ResponseChanges { headers, status, context, declines_body } = match outcome {
            ResponseOutcome::Respond(response) => {
                return validate::response(response).map(ResponseTurn::Respond);
            }
            ResponseOutcome::Proceed(changes) => changes,
        };
        Ok(ResponseTurn::Proceed(Rc::new(ResponseEdit {
            edits: validate::edits(headers, present, Direction::Response, binding.credentials())?,
            status: status.map(validate::status).transpose()?,
            context: context.map(|context| within(context, binding.limits())).transpose()?,
            declines_body,
        })))
    }
}

impl ResponseEdit {
    /// Applies all changes.
    fn apply(
        edit: Rc<Self>,
        (head, credentials): (&RequestHead, &Credentials),
        (status, headers): (&mut StatusCode, &mut HeaderMap),
        context: &Context,
    ) {
        let seen = Seen { head, response: Some((*status, headers)), credentials };
        let composed = validate::compose(&edit.edits, &seen);
        *status = edit.status.unwrap_or(*status);
        if let Some(new) = &edit.context {
            context.set(new.clone());
        }
        if edit.declines_body {
            context.decline_body();
        }
        match Rc::try_unwrap(edit) {
            Ok(own) => validate::apply(own.edits, composed, headers),
            Err(shared) => validate::apply(shared.edits.iter().cloned(), composed, headers),
        }
    }
}

impl Rememberable for ResponseEdit {
    fn size(&self) -> usize {
        let context = self.context.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + validate::size_of_edits(&self.edits) + context
    }
}

/// The context, if it is not larger than its limit.
pub(super) fn within(context: Bytes, limits: PluginLimits) -> Result<Bytes, Invalid> {
    if context.len() > limits.context {
        return Err(Invalid::new("the context is larger than `context_limit`"));
    }
    Ok(context)
}
