//! Contracts `authentication-by-body`, `refusal-by-body` and `routing-by-body`.

use std::time::Duration;

use wasmtime::component::Resource;
use witgate_exchange::contracts::{
    Acceptance, BodyContent, Call, CallFailure, Decision, Destination, LocalResponse, Phase,
};

use super::{
    CallInputs, DeclaredInputs, ITEM, Running, declared, headers, request_head, response, size_of_headers,
    size_of_response,
};
use crate::bindings::draft::exports::witgate::plugin0_2_0::{
    authentication_by_body, refusal_by_body, routing_by_body,
};
use crate::bindings::draft::witgate::plugin0_2_0::request_body;
use crate::plugin::Loaded;
use crate::pool::Lease;

/// Calls the function that finds out by the body who the caller is.
pub(crate) async fn authenticate<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
    read: BodyContent,
) -> Result<Decision, CallFailure> {
    use authentication_by_body as contract;
    let mut running =
        Running::begin(binding, lease, Phase::AuthenticationByBody, CallInputs { call, response: None })
            .await?;
    let exported =
        running.instance()?.exports.authentication_by_body.clone().ok_or(CallFailure::Unavailable)?;
    let list = declared(&call.head.headers, &binding.interest.request_headers, u64::MAX);
    let head = request_head(call.head, &list, DeclaredInputs::ALL);
    let parameters = (content(&read), head, Resource::new_borrow(0));
    let answer = running.invoke(exported.func_authenticate(), parameters).await;
    running.end(&answer, |(decision,)| match decision {
        contract::Decision::Accepted(accepted) => {
            let claims = accepted.identity.claims.iter().map(|(name, value)| name.len() + value.len() + ITEM);
            accepted.identity.subject.len()
                + claims.sum::<usize>()
                + size_of_headers(&accepted.response_headers)
        }
        contract::Decision::Refused(refusal) => size_of_response(refusal),
        contract::Decision::NotMine(challenges) => {
            challenges.iter().map(|challenge| challenge.len() + ITEM).sum()
        }
    })?;
    let (decision,) = answer?;
    Ok(match decision {
        contract::Decision::Accepted(accepted) => Decision::Accepted(Acceptance {
            subject: accepted.identity.subject,
            claims: accepted.identity.claims,
            response_headers: headers(accepted.response_headers),
            cacheable_for: Duration::ZERO,
            inputs: Vec::new(),
        }),
        contract::Decision::Refused(refusal) => {
            binding.turned_away();
            Decision::Refused(response(refusal))
        }
        contract::Decision::NotMine(challenges) => Decision::NotMine(challenges),
    })
}

/// Calls the function that refuses a request by its body.
pub(crate) async fn check<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
    read: BodyContent,
) -> Result<Option<LocalResponse>, CallFailure> {
    use refusal_by_body as contract;
    let mut running =
        Running::begin(binding, lease, Phase::RefusalByBody, CallInputs { call, response: None }).await?;
    let exported = running.instance()?.exports.refusal_by_body.clone().ok_or(CallFailure::Unavailable)?;
    let list = declared(&call.head.headers, &binding.interest.request_headers, u64::MAX);
    let head = request_head(call.head, &list, DeclaredInputs::ALL);
    let parameters = (content(&read), head, Resource::new_borrow(0));
    let answer = running.invoke(exported.func_check(), parameters).await;
    running.end(&answer, |(outcome,)| match outcome {
        contract::Outcome::Proceed => 0,
        contract::Outcome::Refuse(refusal) => size_of_response(refusal),
    })?;
    Ok(match answer? {
        (contract::Outcome::Proceed,) => None,
        (contract::Outcome::Refuse(refusal),) => {
            binding.turned_away();
            Some(response(refusal))
        }
    })
}

/// Calls the function that chooses by the body where a request is sent.
pub(crate) async fn route<'a>(
    binding: &'a Loaded,
    lease: Option<Lease<'a>>,
    call: Call<'a>,
    read: BodyContent,
) -> Result<Option<Destination>, CallFailure> {
    let mut running =
        Running::begin(binding, lease, Phase::RoutingByBody, CallInputs { call, response: None }).await?;
    let exported = running.instance()?.exports.routing_by_body.clone().ok_or(CallFailure::Unavailable)?;
    let list = declared(&call.head.headers, &binding.interest.request_headers, u64::MAX);
    let head = request_head(call.head, &list, DeclaredInputs::ALL);
    let parameters = (content(&read), head, Resource::new_borrow(0));
    let answer = running.invoke(exported.func_route(), parameters).await;
    running.end(&answer, |(chosen,)| {
        chosen.as_ref().map_or(0, |chosen| {
            chosen.upstream.as_ref().map_or(0, String::len)
                + chosen.path.as_ref().map_or(0, String::len)
                + chosen.hash_key.as_ref().map_or(0, Vec::len)
                + size_of_headers(&chosen.response_headers)
        })
    })?;
    let (chosen,) = answer?;
    Ok(chosen.map(|chosen: routing_by_body::Destination| Destination {
        upstream: chosen.upstream,
        path: chosen.path,
        hash_key: chosen.hash_key.map(Into::into),
        timeout: chosen.timeout.map(Duration::from_millis),
        response_headers: headers(chosen.response_headers),
    }))
}

/// The body as a parameter of the call.
fn content(read: &BodyContent) -> request_body::Content<'_> {
    request_body::Content { bytes: &read.bytes, complete: read.complete }
}
