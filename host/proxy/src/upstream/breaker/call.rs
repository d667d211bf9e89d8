//! One call through a breaker: each piece of news is told once, and in order, whoever brings it.

use std::cell::Cell;
use std::time::Duration;

use witgate_config::model;

use super::{Breaker, Change, News, Pass, Reason, is_slow};
use crate::upstream::observe::{Extent, Failure};

/// A call. It says what it was told to the breaker it passed; what comes too late for that is not said.
#[derive(Debug)]
pub(in crate::upstream) struct Call {
    pass: Cell<Pass>,
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
        Call { pass: Cell::new(pass), stage: Cell::new(Stage::UnderWay) }
    }

    /// The request has a connection to be sent on. If no answer is needed to close the breaker, and no other endpoint serves
    /// (`others` as in [`Call::failed`]), the probe has done its work: what becomes of it from here on may be its own doing,
    /// and a slow one would turn away everybody else meanwhile.
    pub(in crate::upstream) fn connected<G>(
        &self,
        breaker: &Breaker,
        settings: &model::Breaker,
        others: impl Fn() -> Option<G>,
    ) -> Option<Change> {
        let Pass::Probe { rest } = self.pass.get() else { return None };
        if !breaker.needs_only_connection(rest) || others().is_some() {
            return None;
        }
        self.pass.set(Pass::Ordinary);
        breaker.probe_succeeded(rest, settings)
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
        match self.pass.get() {
            Pass::Probe { rest } if is_slow(within, settings) => {
                breaker.probe_failed(rest, Reason::SlowProbe, true, settings)
            }
            Pass::Probe { rest } => breaker.probe_succeeded(rest, settings),
            Pass::Ordinary => breaker.see(News::Answered(within), settings, always),
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
        breaker.see(News::Completed, settings, always)
    }

    /// There is no answer, or none worth the name, or no end of it. `others` says that another endpoint serves, and sees to
    /// it that it goes on serving while what it returns is held. Where there is none, a probe that was connected closes the
    /// breaker of the last endpoint, unless it was answered with a status that stands for a failure: half-open, it would turn
    /// away everybody but the next probe.
    pub(in crate::upstream) fn failed<G>(
        &self,
        breaker: &Breaker,
        failure: Failure,
        settings: &model::Breaker,
        others: impl Fn() -> Option<G>,
    ) -> Option<Change> {
        let stage = self.stage.replace(Stage::Over);
        let news = match stage {
            Stage::Over => return None,
            Stage::UnderWay => News::Failed(failure),
            Stage::Answered => News::BrokeOff(failure),
        };
        if let Pass::Probe { rest } = self.pass.get() {
            let spared = failure.extent == Extent::Reached && others().is_none();
            let by_status = failure.extent == Extent::Status;
            let change = match (spared, stage) {
                (false, _) => breaker.probe_failed(rest, Reason::Probe, by_status, settings),
                (true, Stage::UnderWay) => breaker.probe_succeeded(rest, settings),
                (true, _) => None,
            };
            if change.is_some() || stage == Stage::UnderWay {
                return change;
            }
        }
        // Of one request, one failure counts.
        if failure.repeated { None } else { breaker.see(news, settings, others) }
    }

    /// The time of the whole request ran out. Before the head of an answer came, that is a failure.
    pub(in crate::upstream) fn out_of_time(
        &self,
        breaker: &Breaker,
        settings: &model::Breaker,
    ) -> Option<Change> {
        if self.stage.get() != Stage::UnderWay {
            return None;
        }
        let failure = Failure { extent: Extent::Reached, shared: false, repeated: false };
        self.failed(breaker, failure, settings, always)
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
        match (self.pass.get(), slow) {
            (Pass::Probe { rest }, Some(_)) => breaker.probe_failed(rest, Reason::SlowProbe, true, settings),
            (Pass::Probe { rest }, None) => {
                breaker.probe_left(rest);
                None
            }
            (Pass::Ordinary, Some(waited)) => breaker.see(News::Abandoned(waited), settings, always),
            (Pass::Ordinary, None) => None,
        }
    }
}

/// Where it does not matter whether another endpoint serves.
fn always() -> Option<()> {
    Some(())
}
