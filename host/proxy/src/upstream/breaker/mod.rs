//! Circuit breakers: closed, open, half-open.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | rules | `rules` | when a closed breaker opens |
//! | window | `window` | what the rules count over |
//! | call | `call` | one call through a breaker, and what it may still say about it |
//! | state | here | one word: until when it is open, and how its probes stand |
//!
//! Shared by all cores, without locks, so that what it decides does not depend on how many there are.

mod call;
mod rules;
mod window;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use witgate_config::model;

use super::time::{Clock, millis};
pub(super) use call::Call;
pub(super) use rules::Reason;
use rules::{Enough, News, Rules, is_slow};

/// A breaker, of an endpoint or of an upstream as a whole.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    clock: Clock,
    rules: Rules,
    /// A [`Word`]; 0: it is closed.
    word: AtomicU64,
    /// How often in a row probes failed: the exponent of its rest.
    reopened: AtomicU32,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// No request passes.
    Open,
    /// Probes pass.
    HalfOpen,
}

/// What became of a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    /// It lets nothing through from now on.
    Opened(Reason),
    /// It lets probes through from now on.
    HalfOpened,
    /// It lets everything through again.
    Closed,
}

/// The right to send one request through a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// It is closed.
    Ordinary,
    /// It is half-open, and this request has a say. What a probe of an earlier rest says counts no longer.
    Probe { rest: u64 },
}

/// The state of a breaker that is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// When it half-opens, in milliseconds of the clock. Every rest has another, so this is its name too.
    until: u64,
    /// Whether only an answer closes it; otherwise a connection closes that of the last endpoint.
    needs_answer: bool,
    /// Whether a probe was let through.
    probed: bool,
    /// Probes under way.
    probes: u64,
    /// Probes that succeeded.
    successes: u64,
}

/// Bits of the numbers of probes and successes; the configuration allows 1000 of each.
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
    pub(super) fn would_pass(&self, settings: &model::Breaker) -> bool {
        Word::unpack(self.word.load(Ordering::Acquire)).is_none_or(|word| self.lets_probe(word, settings))
    }

    /// Asks to send a request.
    pub(super) fn enter(&self, settings: &model::Breaker) -> Option<(Call, Option<Change>)> {
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

    /// How it stands.
    pub(super) fn state(&self) -> BreakerState {
        match Word::unpack(self.word.load(Ordering::Acquire)) {
            None => BreakerState::Closed,
            Some(word) if self.clock.now() < word.until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// How long it stays open.
    pub(super) fn rests_for(&self) -> Duration {
        let until = Word::unpack(self.word.load(Ordering::Acquire)).map_or(0, |word| word.until);
        Duration::from_millis(until.saturating_sub(self.clock.now()))
    }

    /// Ends the open period, if the breaker is open: the next call is a probe.
    pub(super) fn end_rest(&self) {
        let now = self.clock.now().max(1);
        // Fails if the breaker is closed or half-open. `until` also identifies the open period; all earlier ones ended before now.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Word::unpack(word).filter(|word| word.until > now).map(|word| Word { until: now, ..word }.pack())
        });
    }

    /// Shows news of an ordinary call to the rules. `others`: as in [`Call::failed`].
    fn see<G>(
        &self,
        news: News,
        settings: &model::Breaker,
        others: impl FnOnce() -> Option<G>,
    ) -> Option<Change> {
        let Enough { reason, of_last, needs_answer } = self.rules.see(news, &self.clock, settings)?;
        let _serving = if of_last { None } else { Some(others()?) };
        let until = self.until(settings, 0);
        // Requests that were under way when it opened do not prolong the rest.
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

    /// A probe of a rest succeeded.
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

    /// Whether a connection is enough to close the breaker of the last endpoint in this rest.
    fn needs_only_connection(&self, rest: u64) -> bool {
        let word = Word::unpack(self.word.load(Ordering::Acquire));
        word.is_some_and(|word| word.until == rest && !word.needs_answer)
    }

    /// A probe of a rest failed: the next rest begins. `needs_answer`: as in [`Enough`]; where it was so before, it stays.
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

    /// A probe of a rest decided nothing: another may go.
    fn probe_left(&self, rest: u64) {
        self.change_rest(rest, |word| Word { probes: word.probes.saturating_sub(1), ..word }.pack());
    }

    /// Changes the state if that rest is still the one. Returns what was before.
    fn change_rest(&self, rest: u64, change: impl Fn(Word) -> u64) -> Option<Word> {
        let changed = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Word::unpack(word).filter(|word| word.until == rest).map(&change)
        });
        Word::unpack(changed.ok()?)
    }

    /// When a rest ends that begins now, as the so many-th in a row. Later than any before it.
    fn until(&self, settings: &model::Breaker, reopened: u32) -> u64 {
        let (first, most) = (millis(settings.open_for).max(1), millis(settings.max_open_for));
        let rest = first.saturating_mul(1 << reopened.min(32)).min(most.max(first));
        self.clock.now() + rest
    }
}

#[cfg(test)]
mod tests;
