//! Circuit breakers: closed, open, half-open.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | rules | `rules` | decides when a closed breaker opens |
//! | window | `window` | the sliding window over which the rules count |
//! | call | `call` | one call through a breaker, and what it reports |
//! | state | this file | one atomic word: until when the breaker is open, and the results of its probes |
//!
//! A breaker is shared by all cores, without locks, so that its decisions do not depend on the number of cores.

mod call;
mod rules;
mod window;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use witgate_config::model;

use super::time::{Clock, millis};
pub(crate) use call::Call;
pub(crate) use rules::Reason;
use rules::{Enough, News, Rules, is_slow};

/// The circuit breaker of an endpoint or of an upstream as a whole.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    clock: Clock,
    rules: Rules,
    /// A [`Word`]; 0: the breaker is closed.
    word: AtomicU64,
    /// How often in a row probes have failed: the exponent of the length of the open period.
    reopened: AtomicU32,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// All requests pass.
    Closed,
    /// No request passes.
    Open,
    /// Half-open probes pass.
    HalfOpen,
}

/// A change of the state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// The breaker has opened: no request passes.
    Opened(Reason),
    /// The breaker has become half-open: probes pass.
    HalfOpened,
    /// The breaker has closed: all requests pass.
    Closed,
}

/// The right to send one request through a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The breaker was closed.
    Ordinary,
    /// The breaker was half-open. The result of this probe counts only in the open period `rest`, not in a later
    /// one.
    Probe { rest: u64 },
}

/// The state of a breaker that is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// When the breaker becomes half-open, in milliseconds of the clock. Unique per open period, so it also
    /// identifies the period.
    until: u64,
    /// Whether only a response closes the breaker. Otherwise a connection is enough for the last endpoint.
    needs_answer: bool,
    /// Whether a probe was let through.
    probed: bool,
    /// Probes in flight.
    probes: u64,
    /// Probes that succeeded.
    successes: u64,
}

/// Bits of the number of probes and of the number of successes. The configuration allows at most 1000 of each.
const FEW: u32 = 11;

impl Word {
    fn unpack(word: u64) -> Option<Word> {
        (word != 0).then_some(Word {
            until: word >> (2 * FEW + 2),
            needs_answer: word & 2 != 0,
            probed: word & 1 != 0,
            probes: (word >> 2) & ((1 << FEW) - 1),
            successes: (word >> (FEW + 2)) & ((1 << FEW) - 1),
        })
    }

    fn pack(self) -> u64 {
        self.until << (2 * FEW + 2)
            | self.successes << (FEW + 2)
            | self.probes << 2
            | u64::from(self.needs_answer) << 1
            | u64::from(self.probed)
    }

    fn resting(until: u64, needs_answer: bool) -> Word {
        Word { until, needs_answer, probed: false, probes: 0, successes: 0 }
    }
}

impl Breaker {
    /// Whether [`Breaker::enter`] is likely to let a request through.
    pub(crate) fn would_pass(&self, settings: &model::Breaker) -> bool {
        Word::unpack(self.word.load(Ordering::Acquire)).is_none_or(|word| self.lets_probe(word, settings))
    }

    /// Asks to send a request through the breaker. `None` if it is refused.
    pub(crate) fn enter(&self, settings: &model::Breaker) -> Option<(Call, Option<Change>)> {
        let entered =
            self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| match Word::unpack(word) {
                None => None,
                Some(word) if self.lets_probe(word, settings) => {
                    Some(Word { probed: true, probes: word.probes + 1, ..word }.pack())
                }
                Some(_) => None,
            });
        match entered.map(Word::unpack) {
            Ok(before) => {
                let word = before?;
                let change = (!word.probed).then_some(Change::HalfOpened);
                Some((Call::new(Pass::Probe { rest: word.until }), change))
            }
            Err(0) => Some((Call::new(Pass::Ordinary), None)),
            Err(_) => None,
        }
    }

    fn lets_probe(&self, word: Word, settings: &model::Breaker) -> bool {
        word.probes < u64::from(settings.probes) && self.clock.now() >= word.until
    }

    /// The current state.
    pub(crate) fn state(&self) -> BreakerState {
        match Word::unpack(self.word.load(Ordering::Acquire)) {
            None => BreakerState::Closed,
            Some(word) if self.clock.now() < word.until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// How long the breaker stays open.
    pub(crate) fn rests_for(&self) -> Duration {
        let until = Word::unpack(self.word.load(Ordering::Acquire)).map_or(0, |word| word.until);
        Duration::from_millis(until.saturating_sub(self.clock.now()))
    }

    /// Ends the open period, if the breaker is open: the next call is a probe.
    pub(crate) fn end_rest(&self) {
        let now = self.clock.now().max(1);
        // Fails if the breaker is closed or half-open. `until` also identifies the open period; all earlier ones
        // ended before now.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Word::unpack(word).filter(|word| word.until > now).map(|word| Word { until: now, ..word }.pack())
        });
    }

    /// Passes the news of an ordinary call to the rules. `others` is as in [`Call::failed`].
    fn see<G>(
        &self,
        news: News,
        settings: &model::Breaker,
        others: impl FnOnce() -> Option<G>,
    ) -> Option<Change> {
        let Enough { reason, of_last, needs_answer } = self.rules.see(news, &self.clock, settings)?;
        let _serving = if of_last { None } else { Some(others()?) };
        let until = self.until(settings, 0);
        // Requests that were in flight when the breaker opened do not prolong the open period.
        self.word
            .compare_exchange(
                0,
                Word::resting(until, needs_answer).pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .ok()
            .map(|_| Change::Opened(reason))
    }

    /// A probe of the open period `rest` succeeded.
    fn probe_succeeded(&self, rest: u64, settings: &model::Breaker) -> Option<Change> {
        let needed = u64::from(settings.probe_successes);
        let changed = self.change_rest(rest, |word| {
            let successes = word.successes + 1;
            let rest = Word { successes, probes: word.probes.saturating_sub(1), ..word };
            if successes >= needed { 0 } else { rest.pack() }
        });
        let closed = changed.is_some_and(|before| before.successes + 1 >= needed);
        closed.then(|| {
            self.rules.forget(settings);
            self.reopened.store(0, Ordering::Release);
            Change::Closed
        })
    }

    /// Whether a connection is enough to close the breaker of the last endpoint in the open period `rest`.
    fn needs_only_connection(&self, rest: u64) -> bool {
        let word = Word::unpack(self.word.load(Ordering::Acquire));
        word.is_some_and(|word| word.until == rest && !word.needs_answer)
    }

    /// A probe of the open period `rest` failed, and the next open period begins. `needs_answer` is as in
    /// [`Enough`]; once true, it stays true.
    fn probe_failed(
        &self,
        rest: u64,
        reason: Reason,
        needs_answer: bool,
        settings: &model::Breaker,
    ) -> Option<Change> {
        let until = self.until(settings, self.reopened.load(Ordering::Acquire) + 1);
        self.change_rest(rest, |word| Word::resting(until, word.needs_answer || needs_answer).pack())?;
        self.reopened.fetch_add(1, Ordering::AcqRel);
        Some(Change::Opened(reason))
    }

    /// A probe of the open period `rest` ended without a result, so another probe may pass.
    fn probe_left(&self, rest: u64) {
        self.change_rest(rest, |word| Word { probes: word.probes.saturating_sub(1), ..word }.pack());
    }

    /// Changes the state if the open period `rest` is still the current one. Returns the state before.
    fn change_rest(&self, rest: u64, change: impl Fn(Word) -> u64) -> Option<Word> {
        let changed = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Word::unpack(word).filter(|word| word.until == rest).map(&change)
        });
        Word::unpack(changed.ok()?)
    }

    /// When an open period ends that begins now, after `reopened` failed probes in a row.
    fn until(&self, settings: &model::Breaker, reopened: u32) -> u64 {
        let (first, most) = (millis(settings.open_for).max(1), millis(settings.max_open_for));
        let rest = first.saturating_mul(1 << reopened.min(32)).min(most.max(first));
        self.clock.now() + rest
    }
}

#[cfg(test)]
mod tests;
