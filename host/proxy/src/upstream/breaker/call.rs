//! One call through a breaker: each piece of news is told once, and in order, whoever brings it.

use std::cell::Cell;
use std::time::Duration;

use witgate_config::model;

use super::{Breaker, Change, News, Pass, Reason, is_slow};

/// A call. It says what it was told to the breaker it passed; what comes too late for that is not said.
#[derive(Debug)]
pub(in crate::upstream) struct Call {
    pass: Pass,
    stage: Cell<Stage>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    UnderWay,
    Answered,
    Over,
}

impl Call {
    pub(super) fn new(pass: Pass) -> Call {
        Call { pass, stage: Cell::new(Stage::UnderWay) }
    }

    /// The head of an answer came, so long after the request was sent. Enough for a probe: streams have no end.
    pub(in crate::upstream) fn answered(
        &self,
        breaker: &Breaker,
        within: Duration,
        settings: &model::Breaker,
    ) -> Option<Change> {
        if self.stage.get() != Stage::UnderWay {
            return None;
        }
        self.stage.set(Stage::Answered);
        match self.pass {
            Pass::Probe { rest } if is_slow(within, settings) => {
                breaker.probe_failed(rest, Reason::SlowProbe, settings)
            }
            Pass::Probe { rest } => breaker.probe_succeeded(rest, settings),
            Pass::Ordinary => breaker.see(News::Answered(within), settings),
        }
    }

    /// The whole answer came.
    pub(in crate::upstream) fn completed(
        &self,
        breaker: &Breaker,
        settings: &model::Breaker,
    ) -> Option<Change> {
        if self.stage.replace(Stage::Over) != Stage::Answered {
            return None;
        }
        breaker.see(News::Completed, settings)
    }

    /// There is no answer, or none worth the name, or no end of it. `shared`: another call has told of the same event.
    pub(in crate::upstream) fn failed(
        &self,
        breaker: &Breaker,
        shared: bool,
        settings: &model::Breaker,
    ) -> Option<Change> {
        match (self.stage.replace(Stage::Over), self.pass) {
            (Stage::Over, _) => None,
            (Stage::UnderWay, Pass::Probe { rest }) => breaker.probe_failed(rest, Reason::Probe, settings),
            (Stage::UnderWay, Pass::Ordinary) => breaker.see(News::Failed { shared }, settings),
            (Stage::Answered, Pass::Probe { rest }) => breaker
                .probe_failed(rest, Reason::Probe, settings)
                .or_else(|| breaker.see(News::BrokeOff { shared }, settings)),
            (Stage::Answered, Pass::Ordinary) => breaker.see(News::BrokeOff { shared }, settings),
        }
    }

    /// The time of the whole request ran out. Before the head of an answer came, that is a failure.
    pub(in crate::upstream) fn out_of_time(
        &self,
        breaker: &Breaker,
        settings: &model::Breaker,
    ) -> Option<Change> {
        if self.stage.get() == Stage::UnderWay { self.failed(breaker, false, settings) } else { None }
    }

    /// Whoever asked went away. `waited`: for the head, since the request was sent; none if it was not.
    pub(in crate::upstream) fn abandoned(
        &self,
        breaker: &Breaker,
        waited: impl FnOnce() -> Option<Duration>,
        settings: &model::Breaker,
    ) -> Option<Change> {
        if self.stage.replace(Stage::Over) != Stage::UnderWay {
            return None;
        }
        let slow = waited().filter(|waited| is_slow(*waited, settings));
        match (self.pass, slow) {
            (Pass::Probe { rest }, Some(_)) => breaker.probe_failed(rest, Reason::SlowProbe, settings),
            (Pass::Probe { rest }, None) => {
                breaker.probe_left(rest);
                None
            }
            (Pass::Ordinary, Some(waited)) => breaker.see(News::Abandoned(waited), settings),
            (Pass::Ordinary, None) => None,
        }
    }
}
