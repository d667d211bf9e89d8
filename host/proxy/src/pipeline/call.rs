//! One call of a plugin: it is timed and recorded, its result is validated, and its failure is handled.

use std::rc::Rc;
use std::sync::Arc;

use witgate_config::model::OnFailure;
use witgate_exchange::call_cost;
use witgate_exchange::contracts::{Answer, Binding, CallFailure, CallResult, Phase};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;
use witgate_exchange::notes::Left;
use witgate_exchange::record::{PluginCall, PluginCalls, Recalled, Record};
use witgate_exchange::turn;

use crate::pipeline::remembered::{Lookup, Question, Rememberable};
use crate::pipeline::validate::Invalid;

/// A validated result of a call.
pub(super) trait Decision {
    /// What the plugin decided, for the span of the call.
    fn in_words(&self) -> &'static str;
}

/// Makes a call and validates its result. An invalid result counts as a failed call. Returns `None` if the call
/// failed and the request goes on as if the binding did not exist.
///
/// `make` begins the call and is not the call itself, so that work before the first await is timed too.
///
/// Before its first call, a request yields to all other requests that are ready. These are parsed first, and then
/// the calls of all are made one after the other, because the code of parsing and that of plugins do not fit into
/// the processor's nearest cache together.
///
/// # Errors
/// `PluginFailed` if the call failed and the binding's `on_failure` is `deny`.
pub(super) async fn call<'a, Answer, Valid: Decision>(
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
    let cost = call_cost::take();
    let left = call_cost::take_left();
    let valid = outcome.and_then(|answer| {
        check(answer).map_err(|invalid| {
            binding.reject_answer(invalid.reason());
            CallFailure::Output
        })
    });
    let attributes = left.map(|left| applied(*left, binding, valid.is_ok())).unwrap_or_default();
    let failure = valid.as_ref().err().copied();
    let decision = valid.as_ref().map_or("", Decision::in_words);
    let binding_name = Arc::clone(binding.name());
    let note = PluginCall {
        binding: binding_name,
        phase: phase.as_str(),
        begun,
        time,
        failure,
        decision,
        cost,
        attributes,
    };
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

/// Leaves the notes and says the costs of a call that ended well, and returns the attributes of its span.
fn applied(left: Left, binding: &dyn Binding, good: bool) -> Vec<(Box<str>, Box<str>)> {
    if let Some((notes, collected)) = left.notes
        && good
    {
        notes.leave(collected);
        if let Some(host) = left.host {
            notes.set_host(host);
        }
    }
    if let Some((settling, costs)) = left.costs
        && good
    {
        costs.iter().for_each(|(policy, cost)| settling.say(binding.name(), policy, *cost));
    }
    left.attributes
}

/// As [`call`], for a function that may be pure: a remembered result for the same inputs is used in place of a
/// call.
///
/// # Errors
/// As [`call`].
pub(super) async fn ask<'a, Content, Valid: Rememberable + Decision>(
    record: &mut Record,
    question: Question<'_>,
    make: impl FnOnce() -> CallResult<'a, Answer<Content>>,
    check: impl FnOnce(Content) -> Result<Valid, Invalid>,
) -> Result<Option<Rc<Valid>>, Fault> {
    let miss = match question.recall() {
        Lookup::Hit(answer) => {
            note_recalled(record, question.head, question.binding, Phase::of(question.function));
            return Ok(Some(answer));
        }
        Lookup::Miss(miss) => miss,
    };
    let mut pure = false;
    let phase = Phase::of(question.function);
    let check = |answer: Answer<Content>| {
        pure = answer.pure;
        check(answer.content)
    };
    let valid = call(&mut record.plugins, question.binding, phase, make, check).await?.map(Rc::new);
    if let Some(valid) = valid.as_ref().filter(|_| pure) {
        question.remember(&miss, valid);
    }
    Ok(valid)
}

/// Notes that a remembered result was used in place of a call, if the trace of the request is sampled.
pub(super) fn note_recalled(record: &mut Record, head: &RequestHead, binding: &dyn Binding, phase: Phase) {
    if head.trace.as_ref().is_some_and(|trace| trace.sampled) {
        let (binding, phase) = (Arc::clone(binding.name()), phase.as_str());
        record.recalled.push(Recalled { binding, phase, at: turn::now() });
    }
}

/// The fault of a failed call whose binding has `on_failure = "deny"`. Only the log is told which binding failed
/// and why.
pub(super) fn denied(binding: &dyn Binding, phase: Phase, why: &str) -> Fault {
    Fault::new(FaultKind::PluginFailed).cause(format!(
        "binding `{}`, {}: {why}",
        binding.name(),
        phase.as_str()
    ))
}
