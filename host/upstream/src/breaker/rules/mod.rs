//! The rules by which a closed breaker opens. Each has a file of its own with the same structure.
//!
//! Each rule receives all news of every ordinary call, keeps what it needs in shared atomics, and reports when the
//! breaker should open. A rule that is switched off costs one branch.

mod consecutive_failures;
mod failure_ratio;
mod slow_ratio;

use std::fmt;
use std::time::Duration;

use witgate_config::model;

use super::window::Tally;
use crate::observe::Failure;
use crate::time::Clock;
use consecutive_failures::ConsecutiveFailures;
use failure_ratio::FailureRatio;
use slow_ratio::SlowRatio;

/// What has become known about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The response head came, this long after the request was sent.
    Answered(Duration),
    /// The whole response came, after its head.
    Completed,
    /// There is no response, or it is malformed or counts as a failure.
    Failed(Failure),
    /// The response broke off, after its head.
    BrokeOff(Failure),
    /// The caller went away, or ran out of time, after having waited this long for the response head.
    Abandoned(Duration),
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reason {
    /// This many failures in a row.
    InARow(u32),
    /// Too many calls in the window failed.
    Failed(Tally),
    /// Too many calls in the window were slow.
    Slow(Tally),
    /// A half-open probe failed.
    Probe,
    /// A half-open probe was slow.
    SlowProbe,
}

/// The decision of a rule to open the breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Enough {
    pub(crate) reason: Reason,
    /// Whether it also holds for the last endpoint in service.
    pub(crate) of_last: bool,
    /// Whether only a response shows that the endpoint works again. Otherwise a connection is enough for the last
    /// endpoint.
    pub(crate) needs_answer: bool,
}

/// A rule that decides when the breaker opens.
pub(crate) trait Rule {
    /// Receives the news of a call. `Some` if the breaker should open.
    fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough>;
    /// The breaker has closed: earlier calls no longer count.
    fn forget(&self, settings: &model::Breaker);
}

/// The state of all rules of one breaker.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    consecutive_failures: ConsecutiveFailures,
    failure_ratio: FailureRatio,
    slow_ratio: SlowRatio,
}

impl Rules {
    fn all(&self) -> [&dyn Rule; 3] {
        [&self.consecutive_failures, &self.failure_ratio, &self.slow_ratio]
    }

    /// Passes news to every rule. `Some` if one of them decides to open the breaker. A decision that also holds
    /// for the last endpoint takes precedence; among equals, that of the first rule.
    pub(crate) fn see(&self, news: News, clock: &Clock, settings: &model::Breaker) -> Option<Enough> {
        let seen = self.all().map(|rule| rule.see(news, clock, settings));
        let enough = || seen.iter().flatten().copied();
        enough().find(|enough| enough.of_last).or_else(|| enough().next())
    }

    /// Resets every rule.
    pub(crate) fn forget(&self, settings: &model::Breaker) {
        self.all().into_iter().for_each(|rule| rule.forget(settings));
    }
}

/// Whether a call with this latency until the response head is slow.
pub(crate) fn is_slow(took: Duration, settings: &model::Breaker) -> bool {
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
