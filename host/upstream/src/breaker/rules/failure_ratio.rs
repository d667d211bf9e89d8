//! Opens at a share of failed calls in a sliding window. It detects an endpoint that fails often, though not each
//! time.

use witgate_config::model;

use super::super::window::{Tally, Window};
use super::{Enough, News, Reason, Rule};
use crate::observe::{Extent, Failure};
use crate::time::Clock;

/// The calls in the window, and how many of them failed.
#[derive(Debug, Default)]
pub(crate) struct FailureRatio {
    all: Window,
    /// The same calls, with those that failed by a gRPC status as good ones: these count for the last endpoint.
    of_last: Window,
}

impl Rule for FailureRatio {
    fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough> {
        if settings.failure_ratio <= 0.0 {
            return None;
        }
        // Heads are counted, not ends: a stream may go on for hours.
        let more = match news {
            News::Answered(_) => Tally::GOOD,
            News::Failed(_) => Tally::BAD,
            News::BrokeOff(_) => Tally::TURNED_BAD,
            News::Completed | News::Abandoned(_) => return None,
        };
        let by_grpc = |failure: Failure| failure.extent == Extent::GrpcStatus;
        let more_of_last = match news {
            News::Failed(failure) if by_grpc(failure) => Some(Tally::GOOD),
            News::BrokeOff(failure) if by_grpc(failure) => None,
            _ => Some(more),
        };
        let tally = self.all.count(clock.now(), settings.window, more);
        let of_last = more_of_last.map(|more| self.of_last.count(clock.now(), settings.window, more));
        let reaches = |tally: Tally| {
            tally.share(settings.min_requests).is_some_and(|share| share >= settings.failure_ratio)
        };
        reaches(tally).then_some(Enough {
            reason: Reason::Failed(tally),
            of_last: of_last.is_some_and(reaches),
            needs_answer: true,
        })
    }

    fn forget(&self, _: &model::Breaker) {
        self.all.clear();
        self.of_last.clear();
    }
}
