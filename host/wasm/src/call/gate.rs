//! Contract `gate`.

use wasmtime::component::Resource;
use witgate_exchange::contracts::{Answer, Call, CallFailure, Function, LocalResponse, Phase};

use super::{CallInputs, Running, declared, request_head, response, size_of_response};
use crate::bindings::draft::exports::witgate::plugin0_2_0::gate as contract;
use crate::plugin::Loaded;
use crate::pool::Lease;

/// Calls the function that lets a request in or answers it.
pub(crate) async fn admit<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
) -> Result<Answer<Option<LocalResponse>>, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::Gate, CallInputs { call, response: None }).await?;
    let exported = running.instance()?.exports.gate.clone().ok_or(CallFailure::Unavailable)?;
    let shown = binding.shown[Function::Admit as usize];
    let list = declared(&call.head.headers, &binding.interest.request_headers, shown.headers);
    let parameters = (request_head(call.head, &list, shown), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_admit(), parameters).await;
    let pure = running.is_pure(Function::Admit)?;
    running.end(&answer, |(outcome,)| match outcome {
        contract::Outcome::Proceed => 0,
        contract::Outcome::Respond(answer) => size_of_response(answer),
    })?;
    let content = match answer? {
        (contract::Outcome::Proceed,) => None,
        (contract::Outcome::Respond(answer),) => {
            binding.turned_away();
            Some(response(answer))
        }
    };
    Ok(Answer { content, pure })
}
