//! Contract `authentication`.

use std::time::Duration;

use wasmtime::component::Resource;
use witgate_proxy::pipeline::plugin::{Acceptance, Call, CallFailure, Decision, Input};

use super::{
    Given, ITEM, Running, declared, headers, request_head, response, size_of_headers, size_of_response,
};
use crate::bindings::exports::witgate::plugin::authentication as contract;
use crate::meter::Phase;
use crate::plugin::Loaded;
use crate::pool::Lease;

/// Asks who is calling.
pub(crate) async fn authenticate<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
) -> Result<Decision, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::Authentication, Given { call, response: None }).await?;
    let exported = running.instance()?.exports.authentication.clone().ok_or(CallFailure::Unavailable)?;
    let list = declared(&call.head.headers, &binding.interest.request_headers);
    let parameters = (request_head(call.head, &list), Resource::new_borrow(0));
    let answer = running.invoke(exported.func_authenticate(), parameters).await;
    let (answer,) = running.end(answer, |(answer,)| size(answer))?;
    if matches!(answer, contract::Decision::Refused(_)) {
        binding.turned_away(binding.pool.this_core());
    }
    Ok(decision(answer))
}

fn size(answer: &contract::Decision) -> usize {
    match answer {
        contract::Decision::Accepted(accepted) => {
            let claims = accepted.identity.claims.iter().map(|(name, value)| name.len() + value.len() + ITEM);
            let inputs = accepted.inputs.iter().map(|input| match input {
                contract::Input::Header(name) => name.len() + ITEM,
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

fn decision(answer: contract::Decision) -> Decision {
    match answer {
        contract::Decision::Accepted(accepted) => Decision::Accepted(Acceptance {
            subject: accepted.identity.subject,
            claims: accepted.identity.claims,
            response_headers: headers(accepted.response_headers),
            cacheable_for: Duration::from_millis(accepted.cacheable_for),
            inputs: accepted.inputs.into_iter().map(input).collect(),
        }),
        contract::Decision::Refused(refusal) => Decision::Refused(response(refusal)),
        contract::Decision::NotMine(challenges) => Decision::NotMine(challenges),
    }
}

fn input(input: contract::Input) -> Input {
    match input {
        contract::Input::Header(name) => Input::Header(name),
        contract::Input::Method => Input::Method,
        contract::Input::Path => Input::Path,
        contract::Input::Query => Input::Query,
        contract::Input::Authority => Input::Authority,
        contract::Input::ClientAddress => Input::ClientAddress,
        contract::Input::ClientCertificate => Input::ClientCertificate,
    }
}
