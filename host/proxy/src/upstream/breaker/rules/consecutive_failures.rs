//! Failures in a row: quick to see an endpoint that is gone. To be chosen for endpoints.
//!
//! Two rows are counted. Failures of every kind are since the last whole answer; they are enough where another endpoint
//! serves. For the last endpoint only failures to connect, and statuses that the configuration names, are enough: a single
//! URL whose connection is closed or that is never answered would shut the upstream for everybody otherwise. Anything else
//! shows that there is a connection, and ends that row.

use std::sync::atomic::{AtomicU32, Ordering};

use witgate_config::model;

use super::{Enough, News, Reason, Rule};
use crate::upstream::observe::{Extent, Failure};
use crate::upstream::time::Clock;

/// How many there were since the last whole answer, and how many in a row that are enough for the last endpoint.
#[derive(Debug, Default)]
pub(super) struct ConsecutiveFailures {
    failures: AtomicU32,
    of_last: AtomicU32,
}

impl ConsecutiveFailures {
    /// One more failure; whether it is enough for the last endpoint.
    fn is_enough_for_last(&self, failure: Failure, settings: &model::Breaker) -> bool {
        if failure.extent == Extent::Reached {
            reset(&self.of_last);
            return false;
        }
        self.of_last.fetch_add(1, Ordering::AcqRel).saturating_add(1) >= settings.consecutive_failures
    }
}

impl Rule for ConsecutiveFailures {
    fn see(&self, news: News, _: &Clock, settings: &model::Breaker) -> Option<Enough> {
        match news {
            News::Failed(failure) | News::BrokeOff(failure) if !failure.shared => {
                let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
                let of_last = self.is_enough_for_last(failure, settings);
                let enough = settings.consecutive_failures > 0 && failures >= settings.consecutive_failures;
                let needs_answer = failure.extent == Extent::Status;
                enough.then_some(Enough { reason: Reason::InARow(failures), of_last, needs_answer })
            }
            News::Completed => {
                reset(&self.failures);
                reset(&self.of_last);
                None
            }
            // The body may still break off.
            News::Answered(_) => {
                reset(&self.of_last);
                None
            }
            // A connection that ends is one failure, however many calls it takes along.
            News::Failed(_) | News::BrokeOff(_) | News::Abandoned(_) => None,
        }
    }

    /// Connections or heads of answers have closed the breaker. Until a whole answer has come, one failure more opens it
    /// again: an endpoint whose answers break off would be asked so many times after every rest otherwise.
    fn forget(&self, settings: &model::Breaker) {
        self.failures.store(settings.consecutive_failures.saturating_sub(1), Ordering::Release);
        reset(&self.of_last);
    }
}

/// Reading first keeps the cache line shared between cores while all is well.
fn reset(row: &AtomicU32) {
    if row.load(Ordering::Relaxed) != 0 {
        row.store(0, Ordering::Release);
    }
}
