//! Contract `transformation`: heads and bodies of requests and responses.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::Resource;
use witgate_exchange::contracts::{
    Answer, BodyResult, Call, CallFailure, ComposedHeader, Function, HeaderChange, Phase, Piece,
    RequestChanges, RequestOutcome, ResponseChanges, ResponseHead, ResponseOutcome, ValuePart,
};

use super::{CallInputs, ITEM, Running, declared, header, request_head, response, size_of_response};
use crate::bindings::exports::witgate::plugin::transformation as contract;
use crate::bindings::witgate::plugin::types;
use crate::plugin::Loaded;
use crate::pool::Lease;

/// Passes the head of a request to the plugin.
pub(crate) async fn request<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
) -> Result<Answer<RequestOutcome>, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::Request, CallInputs { call, response: None }).await?;
    let exported = running.instance()?.exports.transformation.clone().ok_or(CallFailure::Unavailable)?;
    let shown = binding.shown[Function::OnRequest as usize];
    let list = declared(&call.head.headers, &binding.interest.request_headers, shown.headers);
    let query = binding.query(call.head, shown);
    let parameters = (request_head(call.head, &list, query.as_deref(), shown), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_on_request(), parameters).await;
    let pure = running.is_pure(Function::OnRequest)?;
    let declines_body = running.instance()?.store.data().declines_body;
    running.end(&answer, |(outcome,)| match outcome {
        contract::RequestOutcome::Proceed(changes) => {
            size_of_changes(&changes.headers)
                + changes.path.as_ref().map_or(0, String::len)
                + changes.method.as_ref().map_or(0, String::len)
                + changes.context.len()
        }
        contract::RequestOutcome::Respond(answer) => size_of_response(answer),
    })?;
    let (outcome,) = answer?;
    let content = match outcome {
        contract::RequestOutcome::Proceed(changes) => RequestOutcome::Proceed(RequestChanges {
            headers: changes.headers.into_iter().map(change).collect(),
            path: changes.path,
            method: changes.method,
            context: changes.context.into(),
            declines_body,
        }),
        contract::RequestOutcome::Respond(answer) => {
            binding.turned_away();
            RequestOutcome::Respond(response(answer))
        }
    };
    Ok(Answer { content, pure })
}

/// Passes a piece of the body of a request to the plugin.
pub(crate) async fn request_body<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
    piece: Piece,
) -> Result<BodyResult, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::RequestBody, CallInputs { call, response: None }).await?;
    running.instance()?.store.data_mut().may_respond = true;
    let exported = running.instance()?.exports.transformation.clone().ok_or(CallFailure::Unavailable)?;
    let parameters = (&piece.content[..], piece.end, &piece.context[..], Resource::new_borrow(0));
    let answer = running.invoke(exported.func_on_request_body(), parameters).await;
    let own = running.instance().ok().and_then(|instance| instance.store.data_mut().responds.take());
    running.end(&answer, |(result,)| size_of_body(result) + own.as_ref().map_or(0, size_of_response))?;
    let (result,) = answer?;
    if own.is_some() {
        binding.turned_away();
    }
    Ok(BodyResult { response: own.map(response), ..body_result(result) })
}

/// Passes the head of a response to the plugin.
pub(crate) async fn response_head<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
    head: Arc<ResponseHead>,
    context: Bytes,
) -> Result<Answer<ResponseOutcome>, CallFailure> {
    let given = CallInputs { call, response: Some(Arc::clone(&head)) };
    let mut running = Running::begin(binding, lease, Phase::Response, given).await?;
    let exported = running.instance()?.exports.transformation.clone().ok_or(CallFailure::Unavailable)?;
    let list = declared(&head.headers, &binding.interest.response_headers, u64::MAX);
    let lowered = contract::ResponseHead { status: head.status, headers: &list };
    let parameters = (lowered, &context[..], Resource::new_borrow(0), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_on_response(), parameters).await;
    let pure = running.is_pure(Function::OnResponse)?;
    let declines_body = running.instance()?.store.data().declines_body;
    running.end(&answer, |(outcome,)| match outcome {
        contract::ResponseOutcome::Proceed(changes) => {
            size_of_changes(&changes.headers) + changes.context.as_ref().map_or(0, Vec::len)
        }
        contract::ResponseOutcome::Respond(answer) => size_of_response(answer),
    })?;
    let (outcome,) = answer?;
    let content = match outcome {
        contract::ResponseOutcome::Proceed(changes) => ResponseOutcome::Proceed(ResponseChanges {
            headers: changes.headers.into_iter().map(change).collect(),
            status: changes.status,
            context: changes.context.map(Bytes::from),
            declines_body,
        }),
        contract::ResponseOutcome::Respond(answer) => ResponseOutcome::Respond(response(answer)),
    };
    Ok(Answer { content, pure })
}

/// Passes a piece of the body of a response to the plugin.
pub(crate) async fn response_body<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
    head: Arc<ResponseHead>,
    piece: Piece,
) -> Result<BodyResult, CallFailure> {
    let given = CallInputs { call, response: Some(head) };
    let mut running = Running::begin(binding, lease, Phase::ResponseBody, given).await?;
    let exported = running.instance()?.exports.transformation.clone().ok_or(CallFailure::Unavailable)?;
    let parameters =
        (&piece.content[..], piece.end, &piece.context[..], Resource::new_borrow(0), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_on_response_body(), parameters).await;
    running.end(&answer, |(result,)| size_of_body(result))?;
    let (result,) = answer?;
    Ok(body_result(result))
}

fn size_of_changes(changes: &[types::HeaderChange]) -> usize {
    let sizes = changes.iter().map(|change| match change {
        types::HeaderChange::Set(header) | types::HeaderChange::Append(header) => {
            header.name.len() + header.value.len() + ITEM
        }
        types::HeaderChange::Remove(name) => name.len() + ITEM,
        types::HeaderChange::SetComposed(header) | types::HeaderChange::AppendComposed(header) => {
            header.name.len() + header.value.iter().map(size_of_part).sum::<usize>() + ITEM
        }
    });
    sizes.sum()
}

fn size_of_part(part: &types::ValuePart) -> usize {
    let text = match part {
        types::ValuePart::Text(text) => text.len(),
        types::ValuePart::PathParameter(name)
        | types::ValuePart::RequestHeader(name)
        | types::ValuePart::Claim(name)
        | types::ValuePart::ResponseHeader(name) => name.len(),
        _ => 0,
    };
    text + ITEM
}

fn size_of_body(result: &contract::BodyResult) -> usize {
    result.output.as_ref().map_or(0, Vec::len) + result.context.as_ref().map_or(0, Vec::len)
}

fn body_result(result: contract::BodyResult) -> BodyResult {
    BodyResult {
        output: result.output.map(Bytes::from),
        context: result.context.map(Bytes::from),
        response: None,
    }
}

fn change(change: types::HeaderChange) -> HeaderChange {
    match change {
        types::HeaderChange::Set(set) => HeaderChange::Set(header(set)),
        types::HeaderChange::Append(appended) => HeaderChange::Append(header(appended)),
        types::HeaderChange::Remove(name) => HeaderChange::Remove(name),
        types::HeaderChange::SetComposed(set) => HeaderChange::SetComposed(composed(set)),
        types::HeaderChange::AppendComposed(appended) => HeaderChange::AppendComposed(composed(appended)),
    }
}

fn composed(header: types::ComposedHeader) -> ComposedHeader {
    ComposedHeader { name: header.name, value: header.value.into_iter().map(part).collect() }
}

fn part(part: types::ValuePart) -> ValuePart {
    match part {
        types::ValuePart::Text(text) => ValuePart::Text(text.into()),
        types::ValuePart::Method => ValuePart::Method,
        types::ValuePart::Path => ValuePart::Path,
        types::ValuePart::Query => ValuePart::Query,
        types::ValuePart::Authority => ValuePart::Authority,
        types::ValuePart::Scheme => ValuePart::Scheme,
        types::ValuePart::OriginalPath => ValuePart::OriginalPath,
        types::ValuePart::ClientAddress => ValuePart::ClientAddress,
        types::ValuePart::Route => ValuePart::Route,
        types::ValuePart::PathParameter(name) => ValuePart::PathParameter(name.into()),
        types::ValuePart::RequestHeader(name) => ValuePart::RequestHeader(name),
        types::ValuePart::RequestId => ValuePart::RequestId,
        types::ValuePart::TraceParent => ValuePart::TraceParent,
        types::ValuePart::Subject => ValuePart::Subject,
        types::ValuePart::Claim(name) => ValuePart::Claim(name.into()),
        types::ValuePart::Status => ValuePart::Status,
        types::ValuePart::ResponseHeader(name) => ValuePart::ResponseHeader(name),
    }
}
