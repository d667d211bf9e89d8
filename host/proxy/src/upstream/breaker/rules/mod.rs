//! The rules by which a closed breaker opens: one file each, of one shape.
//!
//! Each sees every piece of news of every ordinary call, keeps what it needs in shared atomics, and says when it is
//! enough. One that is off costs a branch.

mod consecutive_failures;
mod failure_ratio;
mod slow_ratio;

use std::fmt;
use std::time::Duration;

use witgate_config::model;

use super::window::Tally;
use crate::upstream::observe::Failure;
use crate::upstream::time::Clock;
use consecutive_failures::ConsecutiveFailures;
use failure_ratio::FailureRatio;
use slow_ratio::SlowRatio;

/// What has become known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The head of an answer came, so long after the request was sent.
    Answered(Duration),
    /// The whole answer came, after such a head.
    Completed,
    /// There is no answer worth the name.
    Failed(Failure),
    /// The answer broke off, after such a head.
    BrokeOff(Failure),
    /// Whoever asked went away, or ran out of time, after having waited so long for the head.
    Abandoned(Duration),
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::upstream) enum Reason {
    /// So many failures in a row.
    InARow(u32),
    /// Too many calls in the window failed.
    Failed(Tally),
    /// Too many calls in the window were slow.
    Slow(Tally),
    /// A probe failed.
    Probe,
    /// A probe was slow.
    SlowProbe,
}

/// What is enough to open a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Enough {
    pub(super) reason: Reason,
    /// Whether it is enough for the last endpoint in service, too.
    pub(super) of_last: bool,
    /// Whether only an answer shows that it is over; otherwise a connection does for the last endpoint.
    pub(super) needs_answer: bool,
}

/// A rule.
pub(super) trait Rule {
    /// Sees news of a call; some if it is enough.
    fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough>;
    /// The breaker has closed: what was before counts no longer.
    fn forget(&self, settings: &model::Breaker);
}

/// The state of all rules of one breaker.
#[derive(Debug, Default)]
pub(super) struct Rules {
    consecutive_failures: ConsecutiveFailures,
    failure_ratio: FailureRatio,
    slow_ratio: SlowRatio,
}

impl Rules {
    fn all(&self) -> [&dyn Rule; 3] {
        [&self.consecutive_failures, &self.failure_ratio, &self.slow_ratio]
    }

    /// Shows news to every rule. Some if it is enough for one of them; the first gives the reason, if none is enough for the
    /// last endpoint, too.
    pub(super) fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough> {
        let seen = self.all().map(|rule| rule.see(news, clock, settings));
        let enough = || seen.iter().flatten().copied();
        enough().find(|enough| enough.of_last).or_else(|| enough().next())
    }

    /// Makes every rule forget.
    pub(super) fn forget(&self, settings: &model::Breaker) {
        self.all().into_iter().for_each(|rule| rule.forget(settings));
    }
}

/// Whether a call that took so long to its head is slow.
pub(super) fn is_slow(took: Duration, settings: &model::Breaker) -> bool {
    settings.slow_ratio > 0.0 && took >= settings.slow_call
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::InARow(failures) => write!(formatter, "{failures} failures in a row"),
            Reason::Failed(Tally { calls, bad }) => write!(formatter, "{bad} of {calls} calls failed"),
            Reason::Slow(Tally { calls, bad }) => write!(formatter, "{bad} of {calls} calls were slow"),
            Reason::Probe => formatter.write_str("a probe failed"),
            Reason::SlowProbe => formatter.write_str("a probe was slow"),
        }
    }
}
