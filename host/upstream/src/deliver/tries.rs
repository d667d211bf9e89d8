//! The state of an upstream that belongs to additional attempts: the retry budget, recent latencies, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::latency::Latencies;
use super::rules::Reason;

/// Shared by all cores, and carried over every reload by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    pub(crate) budget: Budget,
    pub(crate) latencies: Latencies,
    /// Bytes of request bodies that are kept in order to be sent again.
    pub(crate) kept: Arc<AtomicUsize>,
    pub(crate) counts: Counts,
    /// Mirrored requests in flight at this upstream.
    pub(crate) shadows: AtomicUsize,
}

/// The outcome of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The endpoint responded. The response goes to the client or leads to the next retry.
    Answered,
    /// The retry failed.
    Failed,
    /// The retry was not made, because the retry budget was used up.
    BudgetExhausted,
}

/// The outcome of a mirrored request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// There was a response.
    Answered,
    /// The request failed, or timed out.
    Failed,
    /// It was not sent: too many mirrored requests were in flight.
    Full,
    /// It was not sent: the body was too long to keep.
    TooLong,
    /// It was not sent: the body of the original request broke off.
    Cut,
    /// It was not sent: the memory for request bodies was used up.
    NoMemory,
}

/// Counts since the upstream was first configured.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    retries: [[AtomicU64; OUTCOMES.len()]; Reason::ALL.len()],
    copies: [AtomicU64; COPIES.len()],
    hedges_sent: AtomicU64,
    hedges_won: AtomicU64,
    hedges_refused: AtomicU64,
    deadlines: AtomicU64,
}

/// The label values of the outcomes, in the order of the declaration.
const OUTCOMES: [&str; 3] = ["answered", "failed", "budget-exhausted"];
const COPIES: [&str; 6] = ["answered", "failed", "too-many", "body-too-long", "body-cut", "no-memory"];

/// How often requests were sent in addition to their first attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriesStatus {
    /// Retries that were sent.
    pub retries: u64,
    /// Retries and hedges that were not sent because the budget was used up.
    pub budget_exhausted: u64,
    /// Hedges that were sent.
    pub hedges: u64,
    /// Hedges that responded first.
    pub hedges_won: u64,
    /// Mirrored requests of other upstreams that were sent to this one.
    pub mirrored: u64,
    /// Mirrored requests that were not sent.
    pub mirrored_dropped: u64,
    /// Requests whose deadline passed.
    pub deadlines_exceeded: u64,
}

impl Counts {
    pub(crate) fn retried(&self, reason: Reason, outcome: Outcome) {
        increment(&self.retries[reason as usize][outcome as usize]);
    }

    pub(crate) fn hedge_sent(&self) {
        increment(&self.hedges_sent);
    }

    pub(crate) fn hedge_won(&self) {
        increment(&self.hedges_won);
    }

    pub(crate) fn hedge_refused(&self) {
        increment(&self.hedges_refused);
    }

    pub(crate) fn copied(&self, copied: Copied) {
        increment(&self.copies[copied as usize]);
    }

    pub(crate) fn deadline_exceeded(&self) {
        increment(&self.deadlines);
    }

    /// Retries by reason and outcome.
    pub(crate) fn retries(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let rows = Reason::ALL.iter().zip(&self.retries);
        rows.flat_map(|(reason, row)| {
            let cells = OUTCOMES.iter().zip(row);
            cells.map(|(outcome, count)| (reason.as_str(), *outcome, read(count)))
        })
    }

    /// Hedges by outcome.
    pub(crate) fn hedges(&self) -> [(&'static str, u64); 3] {
        let (sent, won) = (read(&self.hedges_sent), read(&self.hedges_won));
        [("won", won), ("lost", sent.saturating_sub(won)), ("budget-exhausted", read(&self.hedges_refused))]
    }

    /// Mirrored requests by outcome.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COPIES.iter().zip(&self.copies).map(|(outcome, count)| (*outcome, read(count)))
    }

    /// Requests whose deadline passed.
    pub(crate) fn deadlines(&self) -> u64 {
        read(&self.deadlines)
    }

    /// All counts, summed up.
    pub(crate) fn status(&self) -> TriesStatus {
        let sum = |outcomes: &[Outcome]| {
            let cells =
                self.retries.iter().flat_map(|row| outcomes.iter().map(|outcome| &row[*outcome as usize]));
            cells.map(read).sum::<u64>()
        };
        let copies = |range: std::ops::Range<usize>| self.copies[range].iter().map(read).sum::<u64>();
        TriesStatus {
            retries: sum(&[Outcome::Answered, Outcome::Failed]),
            budget_exhausted: sum(&[Outcome::BudgetExhausted]) + read(&self.hedges_refused),
            hedges: read(&self.hedges_sent),
            hedges_won: read(&self.hedges_won),
            mirrored: copies(0..Copied::Full as usize),
            mirrored_dropped: copies(Copied::Full as usize..COPIES.len()),
            deadlines_exceeded: read(&self.deadlines),
        }
    }
}

#[cfg(test)]
impl Tries {
    /// Bytes of request bodies that are kept in order to be sent again.
    pub(crate) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }
}

fn increment(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
