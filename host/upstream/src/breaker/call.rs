//! One call through a circuit breaker. It reports each result once, and in the right order, whatever the order of
//! the events.

use std::cell::Cell;
use std::time::Duration;

use witgate_config::model;

use super::{Breaker, Change, News, Pass, Reason, is_slow};
use crate::observe::{Extent, Failure};

/// One call. It reports to the breaker that let it through. What happens after its end is ignored.
#[derive(Debug)]
pub(crate) struct Call {
    pass: Cell<Pass>,
    stage: Cell<Stage>,
}

/// The progress of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    UnderWay,
    Answered,
    Over,
}

impl Call {
    pub(crate) fn new(pass: Pass) -> Call {
        Call { pass: Cell::new(pass), stage: Cell::new(Stage::UnderWay) }
    }

    /// The request has a connection. If the breaker needs no response in order to close, and no other endpoint is
    /// in service (`others` as in [`Call::failed`]), the half-open probe has succeeded with that: later failures
    /// may be caused by this request alone, and while a slow one is in flight all other requests would be refused.
    pub(crate) fn connected<G>(
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

    /// The response head came, this long after the request was sent. That is enough for a half-open probe, because
    /// a stream may never end.
    pub(crate) fn answered(
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

    /// The whole response came.
    pub(crate) fn completed(&self, breaker: &Breaker, settings: &model::Breaker) -> Option<Change> {
        if self.stage.replace(Stage::Over) != Stage::Answered {
            return None;
        }
        breaker.see(News::Completed, settings, always)
    }

    /// There is no response, or it is malformed, a failure, or incomplete. `others` returns `Some` if another
    /// endpoint is in service, which is guaranteed as long as the returned value is held. If there is none, a
    /// probe that had a connection closes the breaker of the last endpoint, unless its response had a status that
    /// counts as a failure. Otherwise the half-open breaker would refuse all requests except the next probe.
    pub(crate) fn failed<G>(
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
            let reached = matches!(failure.extent, Extent::Reached | Extent::GrpcStatus);
            let spared = reached && others().is_none();
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
        // The retries of one request count as one failure.
        if failure.repeated { None } else { breaker.see(news, settings, others) }
    }

    /// The deadline of the request has passed. That is a failure if the response head has not come.
    pub(crate) fn out_of_time(&self, breaker: &Breaker, settings: &model::Breaker) -> Option<Change> {
        if self.stage.get() != Stage::UnderWay {
            return None;
        }
        let failure = Failure { extent: Extent::Reached, shared: false, repeated: false };
        self.failed(breaker, failure, settings, always)
    }

    /// The caller went away. `waited` returns how long it has waited for the response head since the request was
    /// sent; `None` if it was not sent.
    pub(crate) fn abandoned(
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

/// For cases in which it does not matter whether another endpoint is in service.
fn always() -> Option<()> {
    Some(())
}
