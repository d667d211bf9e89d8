//! Contract `authentication`.

use std::time::Duration;

use wasmtime::component::Resource;
use witgate_exchange::contracts::{Acceptance, Call, CallFailure, Decision, Input, Phase};

use super::{
    CallInputs, ITEM, Running, declared, headers, input, request_head, response, size_of_headers,
    size_of_response,
};
use crate::bindings::exports::witgate::plugin::authentication as contract;
use crate::bindings::witgate::plugin::types;
use crate::input_tracker::InputTracker;
use crate::plugin::Loaded;
use crate::pool::Lease;

/// Calls `authenticate`. The inputs of the result are left out if the result must not be remembered.
pub(crate) async fn authenticate<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
    remember: bool,
) -> Result<Decision, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::Authentication, CallInputs { call, response: None }).await?;
    let exported = running.instance()?.exports.authentication.clone().ok_or(CallFailure::Unavailable)?;
    let shown = binding.shown_to_authenticate;
    let list = declared(&call.head.headers, &binding.interest.request_headers, shown.headers);
    let query = binding.query(call.head, shown);
    let parameters = (request_head(call.head, &list, query.as_deref(), shown), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_authenticate(), parameters).await;
    let inputs = match &answer {
        Ok((answer,)) if remember => basis(binding, &running.instance()?.store.data().tracker, answer),
        _ => Vec::new(),
    };
    running.end(&answer, |(answer,)| size(answer))?;
    let (answer,) = answer?;
    if matches!(answer, contract::Decision::Refused(_)) {
        binding.turned_away();
    }
    Ok(decision(answer, inputs))
}

/// The inputs under which an acceptance may be remembered. `None` if it may not, for example because the call read
/// more of the request than the inputs it names; a line in the log says so.
fn basis(binding: &Loaded, tracker: &InputTracker, answer: &contract::Decision) -> Vec<Input> {
    let contract::Decision::Accepted(accepted) = answer else { return Vec::new() };
    if accepted.cacheable_for == 0 {
        return Vec::new();
    }
    let inputs: Vec<Input> = match &accepted.inputs[..] {
        [] => binding.interest.authenticates_by.as_deref().unwrap_or_default().to_vec(),
        own => own.iter().filter_map(input).collect(),
    };
    match tracker.looked_beyond(&inputs) {
        Some(beyond) if !inputs.is_empty() => {
            binding.not_pure(Phase::Authentication, "authenticate", &beyond);
            Vec::new()
        }
        _ => inputs,
    }
}

fn size(answer: &contract::Decision) -> usize {
    match answer {
        contract::Decision::Accepted(accepted) => {
            let claims = accepted.identity.claims.iter().map(|(name, value)| name.len() + value.len() + ITEM);
            let inputs = accepted.inputs.iter().map(|input| match input {
                types::Input::Header(name) | types::Input::PathParameter(name) => name.len() + ITEM,
                _ => ITEM,
            });
            accepted.identity.subject.len()
                + claims.sum::<usize>()
                + inputs.sum::<usize>()
                + size_of_headers(&accepted.response_headers)
        }
        contract::Decision::Refused(refusal) => size_of_response(refusal),
        contract::Decision::NotMine(challenges) => {
            challenges.iter().map(|challenge| challenge.len() + ITEM).sum()
        }
    }
}

fn decision(answer: contract::Decision, inputs: Vec<Input>) -> Decision {
    match answer {
        contract::Decision::Accepted(accepted) => Decision::Accepted(Acceptance {
            subject: accepted.identity.subject,
            claims: accepted.identity.claims,
            response_headers: headers(accepted.response_headers),
            cacheable_for: Duration::from_millis(accepted.cacheable_for),
            inputs,
        }),
        contract::Decision::Refused(refusal) => Decision::Refused(response(refusal)),
        contract::Decision::NotMine(challenges) => Decision::NotMine(challenges),
    }
}
