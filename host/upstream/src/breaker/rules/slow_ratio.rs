//! Opens at a share of slow calls in a sliding window. It detects an endpoint that responds too late to be useful.
//! A call whose caller went away counts as slow if it had lasted long enough to be slow.

use witgate_config::model;

use super::super::window::{Tally, Window};
use super::{Enough, News, Reason, Rule, is_slow};
use crate::time::Clock;

/// The calls in the window, and how many of them were slow.
#[derive(Debug, Default)]
pub(crate) struct SlowRatio(Window);

impl Rule for SlowRatio {
    fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough> {
        if settings.slow_ratio <= 0.0 {
            return None;
        }
        let more = match news {
            News::Answered(took) | News::Abandoned(took) if is_slow(took, settings) => Tally::BAD,
            News::Answered(_) => Tally::GOOD,
            // Failures are counted by other rules; their latency shows nothing.
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
