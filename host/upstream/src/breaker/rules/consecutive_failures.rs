//! Opens after a number of failures in a row. It quickly detects an endpoint that is gone. Choose it for
//! endpoints.
//!
//! There are two counters. The first counts failures of every kind since the last complete response; it decides if
//! another endpoint is in service. For the last endpoint, a second counter must reach the threshold as well: it
//! counts only failures to connect, and the statuses that the configuration names, but none of gRPC. Otherwise a single URL whose
//! connection is closed, or that never gets a response, would open the breaker for all requests. Any other failure
//! shows that connections succeed, and resets the second counter.

use std::sync::atomic::{AtomicU32, Ordering};

use witgate_config::model;

use super::{Enough, News, Reason, Rule};
use crate::observe::{Extent, Failure};
use crate::time::Clock;

/// The failures since the last complete response, and those in a row that count for the last endpoint.
#[derive(Debug, Default)]
pub(crate) struct ConsecutiveFailures {
    failures: AtomicU32,
    of_last: AtomicU32,
}

impl ConsecutiveFailures {
    /// Counts one more failure for the last endpoint. Returns whether the threshold is reached.
    fn is_enough_for_last(&self, failure: Failure, settings: &model::Breaker) -> bool {
        if matches!(failure.extent, Extent::Reached | Extent::GrpcStatus) {
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
            // A connection that ends is one failure, however many calls end with it.
            News::Failed(_) | News::BrokeOff(_) | News::Abandoned(_) => None,
        }
    }

    /// Connections or response heads have closed the breaker. Until a complete response has come, one more failure
    /// opens it again. Otherwise an endpoint whose responses break off would get the full number of requests after
    /// every open period.
    fn forget(&self, settings: &model::Breaker) {
        self.failures.store(settings.consecutive_failures.saturating_sub(1), Ordering::Release);
        reset(&self.of_last);
    }
}

/// Loading first keeps the cache line shared between cores as long as the counter is 0.
fn reset(row: &AtomicU32) {
    if row.load(Ordering::Relaxed) != 0 {
        row.store(0, Ordering::Release);
    }
}
