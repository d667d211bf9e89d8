//! Failures in a row: quick to see an endpoint that is gone. To be chosen for endpoints.
//!
//! Two rows are counted. Failures of every kind are since the last whole answer; they are enough where another endpoint
//! serves. For the last endpoint only those in a row are enough that brought nothing: not reached, not a byte of an answer,
//! a status that stands for it. What brings a byte ends that row. A request can be the cause of a reset or a time that runs
//! out, so the last endpoint must also have been silent to everybody for a window; that there is no connection is enough
//! at once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use witgate_config::model;

use super::{Enough, News, Reason, Rule};
use crate::upstream::observe::{Extent, Failure};
use crate::upstream::time::{Clock, millis};

/// How many there were since the last whole answer, and how many that brought nothing.
#[derive(Debug, Default)]
pub(super) struct ConsecutiveFailures {
    failures: AtomicU32,
    /// A [`Silence`]; 0: there is none.
    silence: AtomicU64,
}

/// A row of failures that brought nothing.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// When it began, in milliseconds of the clock.
    since: u64,
    failures: u64,
}

/// Bits of the number of failures in a word.
const COUNT: u32 = 20;

impl Silence {
    fn unpack(word: u64) -> Option<Silence> {
        (word != 0).then_some(Silence { since: word >> COUNT, failures: word & ((1 << COUNT) - 1) })
    }

    fn pack(self) -> u64 {
        self.since << COUNT | self.failures.min((1 << COUNT) - 1)
    }
}

impl ConsecutiveFailures {
    /// One more failure; whether it is enough for the last endpoint.
    fn is_silent(&self, failure: Failure, clock: &Clock, settings: &model::Breaker) -> bool {
        if failure.extent == Extent::Answered {
            end(&self.silence);
            return false;
        }
        let now = clock.now();
        let longer = |word| {
            let before = Silence::unpack(word).unwrap_or(Silence { since: now, failures: 0 });
            Silence { failures: before.failures + 1, ..before }
        };
        let update = |word| Some(longer(word).pack());
        let before = self.silence.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
        let silence = longer(before.unwrap_or_else(|word| word));
        let lasts = now.saturating_sub(silence.since);
        let is_long = failure.extent != Extent::Unanswered || lasts >= millis(settings.window);
        silence.failures >= u64::from(settings.consecutive_failures) && is_long
    }
}

impl Rule for ConsecutiveFailures {
    fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough> {
        match news {
            News::Failed(failure) | News::BrokeOff(failure) if !failure.shared => {
                let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
                let of_last = self.is_silent(failure, clock, settings);
                let enough = settings.consecutive_failures > 0 && failures >= settings.consecutive_failures;
                enough.then_some(Enough { reason: Reason::InARow(failures), of_last })
            }
            News::Completed => {
                // Reading first keeps the cache line shared between cores while all is well.
                if self.failures.load(Ordering::Relaxed) != 0 {
                    self.failures.store(0, Ordering::Release);
                }
                end(&self.silence);
                None
            }
            // The body may still break off.
            News::Answered(_) => {
                end(&self.silence);
                None
            }
            // A connection that ends is one failure, however many calls it takes along.
            News::Failed(_) | News::BrokeOff(_) | News::Abandoned(_) => None,
        }
    }

    /// Heads of answers have closed the breaker. Until a whole answer has come, one failure more opens it again: an
    /// endpoint whose answers break off would be asked so many times after every rest otherwise.
    fn forget(&self, settings: &model::Breaker) {
        self.failures.store(settings.consecutive_failures.saturating_sub(1), Ordering::Release);
        end(&self.silence);
    }
}

/// Reading first keeps the cache line shared between cores while all is well.
fn end(silence: &AtomicU64) {
    if silence.load(Ordering::Relaxed) != 0 {
        silence.store(0, Ordering::Release);
    }
}
