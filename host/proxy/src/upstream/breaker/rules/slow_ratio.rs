//! The share of slow calls in a sliding window: sees what still answers, but too late to be of use. A call nobody waited
//! for any longer counts as slow, if it had its time.

use witgate_config::model;

use super::super::window::{Tally, Window};
use super::{Enough, News, Reason, Rule, is_slow};
use crate::upstream::time::Clock;

/// Calls and how many of them were slow.
#[derive(Debug, Default)]
pub(super) struct SlowRatio(Window);

impl Rule for SlowRatio {
    fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough> {
        if settings.slow_ratio <= 0.0 {
            return None;
        }
        let more = match news {
            News::Answered(took) | News::Abandoned(took) if is_slow(took, settings) => Tally::BAD,
            News::Answered(_) => Tally::GOOD,
            // Failures are for other rules; how fast they are says nothing.
            News::Completed | News::Failed(_) | News::BrokeOff(_) | News::Abandoned(_) => {
                return None;
            }
        };
        let tally = self.0.count(clock.now(), settings.window, more);
        let share = tally.share(settings.min_requests)?;
        (share >= settings.slow_ratio).then_some(Enough {
            reason: Reason::Slow(tally),
            of_last: true,
            needs_answer: true,
        })
    }

    fn forget(&self, _: &model::Breaker) {
        self.0.clear();
    }
}
