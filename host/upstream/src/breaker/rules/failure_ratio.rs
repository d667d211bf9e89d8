//! Opens at a share of failed calls in a sliding window. It detects an endpoint that fails often, though not each
//! time.

use witgate_config::model;

use super::super::window::{Tally, Window};
use super::{Enough, News, Reason, Rule};
use crate::time::Clock;

/// The calls in the window, and how many of them failed.
#[derive(Debug, Default)]
pub(crate) struct FailureRatio(Window);

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
        let tally = self.0.count(clock.now(), settings.window, more);
        let share = tally.share(settings.min_requests)?;
        (share >= settings.failure_ratio).then_some(Enough {
            reason: Reason::Failed(tally),
            of_last: true,
            needs_answer: true,
        })
    }

    fn forget(&self, _: &model::Breaker) {
        self.0.clear();
    }
}
