//! Decisions about buckets in several slots of a cluster, which no single script can make.
//!
//! The buckets are charged one slot after the other. If a slot refuses, what the slots before it were charged is given back,
//! and nothing is asked of those after it. Meanwhile another request can see the charge, and be refused though there would have
//! been room; never the other way round.

use std::time::Instant;

use witgate_exchange::contracts::counter::{BucketState, BucketStates, Draw};

use super::Client;
use super::counter::{CounterReply, SECOND, call, collect, names_of, tag_of, untouched};
use super::link::Failure;
use super::names::Names;
use super::script::ScriptCall;

/// The draws on one slot, with their places among all draws, and what became of them.
struct Part {
    places: Vec<usize>,
    draws: Vec<Draw>,
    reply: Option<CounterReply>,
}

/// Charges all draws or none, within the budget of one decision. Giving back has a budget of its own.
///
/// # Errors
/// A server did not answer. What others were charged is given back.
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

/// The draws by slot. Equal tags are in one slot.
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

/// Gives back what a part was charged, if it was.
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
    // If it fails, the charge stays and flows back by itself: too much is refused until then.
    let _charged = client.link.run(&client.refund, &call, client.options.budget).await;
}

/// How all buckets stand, in the order of the draws. A part that was not asked is shown as if it had room, because another
/// one is why the request was refused.
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
