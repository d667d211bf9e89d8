//! One call of a plugin: timed, noted, its answer validated, and what becomes of the request if it failed.

use std::rc::Rc;
use std::sync::Arc;

use witgate_config::model::OnFailure;
use witgate_exchange::contracts::{Answer, Binding, CallFailure, CallResult, Phase};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::record::{PluginCall, PluginCalls};
use witgate_exchange::turn;

use crate::pipeline::remembered::{Lookup, Question, Rememberable};
use crate::pipeline::validate::Invalid;

/// Makes a call and validates its answer; an answer that does not hold counts as a failed call. None means that the
/// call failed and the request goes on as if the binding were not there.
///
/// `make` begins the call rather than being the call, so that work done before the first await is timed too.
///
/// The first call of a request stands behind all other requests that are ready. They are parsed first, and then the calls
/// of all are made, one after the other: what runs a plugin is as much code as all the rest of a request's way, and the
/// processor's nearest cache holds neither as a whole. Four plugins with fresh tokens cost 0.93 of what they did before
/// (13 interleaved rounds).
///
/// # Errors
/// `PluginFailed` where the binding's failures deny.
pub(super) async fn call<'a, Answer, Valid>(
    calls: &mut PluginCalls,
    binding: &dyn Binding,
    phase: Phase,
    make: impl FnOnce() -> CallResult<'a, Answer>,
    check: impl FnOnce(Answer) -> Result<Valid, Invalid>,
) -> Result<Option<Valid>, Fault> {
    if !calls.any() {
        turn::give_up().await;
    }
    let begun = turn::read();
    let outcome = make().await;
    let time = turn::now() - begun;
    let valid = outcome.and_then(|answer| {
        check(answer).map_err(|invalid| {
            binding.reject_answer(invalid.reason());
            CallFailure::Output
        })
    });
    let failure = valid.as_ref().err().copied();
    let note =
        PluginCall { binding: Arc::clone(binding.name()), phase: phase.as_str(), begun, time, failure };
    if phase.is_of_body() {
        calls.add(note)
    } else {
        calls.push(note)
    }
    match valid {
        Ok(valid) => Ok(Some(valid)),
        Err(_) if binding.on_failure() == OnFailure::Skip => Ok(None),
        Err(failure) => Err(denied(binding, phase, failure.as_str())),
    }
}

/// As [`call`], of a function that may be pure: what it answered to the same inputs is used again.
///
/// # Errors
/// As [`call`].
pub(super) async fn ask<'a, Content, Valid: Rememberable>(
    calls: &mut PluginCalls,
    question: Question<'_>,
    make: impl FnOnce() -> CallResult<'a, Answer<Content>>,
    check: impl FnOnce(Content) -> Result<Valid, Invalid>,
) -> Result<Option<Rc<Valid>>, Fault> {
    let miss = match question.recall() {
        Lookup::Hit(answer) => return Ok(Some(answer)),
        Lookup::Miss(miss) => miss,
    };
    let mut pure = false;
    let phase = Phase::of(question.function);
    let check = |answer: Answer<Content>| {
        pure = answer.pure;
        check(answer.content)
    };
    let valid = call(calls, question.binding, phase, make, check).await?.map(Rc::new);
    if let Some(valid) = valid.as_ref().filter(|_| pure) {
        question.remember(&miss, valid);
    }
    Ok(valid)
}

/// The fault of a failed call whose binding denies. Only the log is told which binding and why.
pub(super) fn denied(binding: &dyn Binding, phase: Phase, why: &str) -> Fault {
    Fault::new(FaultKind::PluginFailed).cause(format!(
        "binding `{}`, {}: {why}",
        binding.name(),
        phase.as_str()
    ))
}
