//! Contract `routing`.

use std::time::Duration;

use wasmtime::component::Resource;
use witgate_exchange::contracts::{Answer, Call, CallFailure, Destination, Function, Phase};

use super::{CallInputs, Running, declared, headers, request_head, size_of_headers};
use crate::bindings::exports::witgate::plugin::routing as contract;
use crate::plugin::Loaded;
use crate::pool::Lease;

/// Calls the function that chooses where a request is sent.
pub(crate) async fn route<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
) -> Result<Answer<Option<Destination>>, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::Routing, CallInputs { call, response: None }).await?;
    let exported = running.instance()?.exports.routing.clone().ok_or(CallFailure::Unavailable)?;
    let shown = binding.shown[Function::Route as usize];
    let list = declared(&call.head.headers, &binding.interest.request_headers, shown.headers);
    let query = binding.query(call.head, shown);
    let parameters = (request_head(call.head, &list, query.as_deref(), shown), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_route(), parameters).await;
    let pure = running.is_pure(Function::Route)?;
    running.end(&answer, |(chosen,)| chosen.as_ref().map_or(0, size))?;
    let (chosen,) = answer?;
    Ok(Answer { content: chosen.map(destination), pure })
}

fn size(chosen: &contract::Destination) -> usize {
    chosen.upstream.as_ref().map_or(0, String::len)
        + chosen.path.as_ref().map_or(0, String::len)
        + chosen.hash_key.as_ref().map_or(0, Vec::len)
        + size_of_headers(&chosen.response_headers)
}

fn destination(chosen: contract::Destination) -> Destination {
    Destination {
        upstream: chosen.upstream,
        path: chosen.path,
        hash_key: chosen.hash_key.map(Into::into),
        timeout: chosen.timeout.map(Duration::from_millis),
        response_headers: headers(chosen.response_headers),
    }
}
