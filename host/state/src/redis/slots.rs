//! Decisions about buckets in several slots of a cluster, which no single script can make.
//!
//! The slots are charged one after the other. If a slot refuses, the charges in the slots before it are refunded,
//! and the slots after it are not called. Until the refund, another request may be refused although there would be
//! room. The opposite, admitting too much, cannot happen.

use std::time::Instant;

use witgate_exchange::contracts::counter::{BucketState, BucketStates, Draw};

use super::Client;
use super::counter::{CounterReply, SECOND, call, collect, names_of, tag_of, untouched};
use super::link::Failure;
use super::names::Names;
use super::script::ScriptCall;

/// The draws on one slot, their positions among all draws, and their result.
struct Part {
    places: Vec<usize>,
    draws: Vec<Draw>,
    reply: Option<CounterReply>,
}

/// Charges all draws or none, within the budget of one decision. The refunds have a budget of their own.
///
/// # Errors
/// A server did not respond. The charges on the other servers are refunded.
pub(super) async fn decide(client: &Client, names: &Names, draws: &[Draw]) -> Result<BucketStates, Failure> {
    let begun = Instant::now();
    let mut parts = split(draws);
    let mut failure = None;
    for part in &mut parts {
        let left = client.options.budget.saturating_sub(begun.elapsed());
        let answer = client.link.run(&client.charge, &call(names, &part.draws), left).await;
        match answer.and_then(|answer| CounterReply::read(answer, &part.draws).ok_or(Failure::Malformed)) {
            Ok(reply) => {
                let is_refused = reply.is_refused();
                part.reply = Some(reply);
                if is_refused {
                    break;
                }
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let is_refused = failure.is_some()
        || parts.iter().any(|part| part.reply.as_ref().is_none_or(CounterReply::is_refused));
    if is_refused {
        for part in &parts {
            refund(client, names, part).await;
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(states(draws, &parts, is_refused)),
    }
}

/// Groups the draws by slot. Buckets with equal tags are in one slot.
fn split(draws: &[Draw]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (place, draw) in draws.iter().enumerate() {
        let part = parts.iter_mut().find(|part| tag_of(&part.draws[0]) == tag_of(draw));
        match part {
            Some(part) => {
                part.places.push(place);
                part.draws.push(*draw);
            }
            None => parts.push(Part { places: vec![place], draws: vec![*draw], reply: None }),
        }
    }
    parts
}

/// Refunds the draws of a part, if they were charged.
async fn refund(client: &Client, names: &Names, part: &Part) {
    let Some(reply) = part.reply.as_ref().filter(|reply| !reply.is_refused()) else { return };
    let mut call = ScriptCall::default();
    call.push(names.count());
    for (draw, (full, _)) in part.draws.iter().zip(&reply.buckets) {
        let from = (*full).max(reply.now);
        let to = draw.rate.charge(*full, reply.now, draw.cost).unwrap_or(from);
        call.keys.extend(names_of(names, draw));
        for time in [from, to] {
            call.push(time / SECOND);
            call.push(time % SECOND);
        }
    }
    // If the refund fails, the charge remains until the bucket has been refilled. Until then too much is refused.
    let _charged = client.link.run(&client.refund, &call, client.options.budget).await;
}

/// The states of all buckets, in the order of the draws. A part that was not called is shown as if it had room,
/// because another part is the reason for the refusal.
fn states(draws: &[Draw], parts: &[Part], is_refused: bool) -> BucketStates {
    let mut states: Vec<BucketState> = draws.iter().map(untouched).collect();
    for part in parts {
        let Some(reply) = &part.reply else { continue };
        for (place, state) in part.places.iter().zip(reply.states(&part.draws, is_refused)) {
            states[*place] = state;
        }
    }
    collect(states)
}
