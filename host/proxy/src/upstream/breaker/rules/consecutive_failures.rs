//! Failures in a row: quick to see an endpoint that is gone. To be chosen for endpoints.

use std::sync::atomic::{AtomicU32, Ordering};

use witgate_config::model;

use super::{News, Reason, Rule};
use crate::upstream::time::Clock;

/// How many there were since the last whole answer.
#[derive(Debug, Default)]
pub(super) struct ConsecutiveFailures(AtomicU32);

impl Rule for ConsecutiveFailures {
    fn see(&self, news: News, _: &Clock, settings: &model::Breaker) -> Option<Reason> {
        match news {
            News::Failed { shared: false } | News::BrokeOff { shared: false } => {
                let failures = self.0.fetch_add(1, Ordering::AcqRel).saturating_add(1);
                let enough = settings.consecutive_failures > 0 && failures >= settings.consecutive_failures;
                enough.then_some(Reason::InARow(failures))
            }
            News::Completed => {
                // Reading first keeps the cache line shared between cores while all is well.
                if self.0.load(Ordering::Relaxed) != 0 {
                    self.0.store(0, Ordering::Release);
                }
                None
            }
            // A connection that ends is one failure, however many calls it takes along.
            News::Failed { shared: true } | News::BrokeOff { shared: true } => None,
            // The body may still break off.
            News::Answered(_) | News::Abandoned(_) => None,
        }
    }

    /// Heads of answers have closed the breaker. Until a whole answer has come, one failure more opens it again: an
    /// endpoint whose answers break off would be asked so many times after every rest otherwise.
    fn forget(&self, settings: &model::Breaker) {
        self.0.store(settings.consecutive_failures.saturating_sub(1), Ordering::Release);
    }
}
