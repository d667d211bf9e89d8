//! Hedging: an attempt that takes long gets company from other endpoints, and the first answer is taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Response;
use tokio::time::sleep_until;
use witgate_config::model::{Hedge, HedgeAfter};
use witgate_exchange::body::Body;
use witgate_exchange::record::{Repeat, Why};

use super::super::attempt::Attempt;
use super::super::request::UpstreamRequest;
use super::super::send::{Failure, conclude, send};
use super::super::set::Member;
use super::{AttemptLog, Delivery, Supplied};

/// One attempt that has ended.
struct Ended {
    /// Its place among the endpoints asked; 0: the first.
    place: usize,
    notes: AttemptLog,
    result: Result<Response<Body>, Failure>,
}

impl Delivery<'_> {
    /// Makes an attempt. Each time `hedge` finds that it takes long, another endpoint is asked too, if there is one, if the
    /// body can be sent a second time by now, and within the budget. The others are given up once one has answered: their
    /// connections are closed, or their streams reset.
    pub(super) async fn hedge(
        &mut self,
        hedge: Hedge,
        attempt: Attempt,
        body: Supplied,
        notes: &mut AttemptLog,
    ) -> Result<Response<Body>, Failure> {
        let begun = Instant::now();
        let mut asked = vec![attempt.member.clone()];
        let mut delay = self.delay(hedge);
        let mut running = FuturesUnordered::new();
        running.push(run(0, attempt, self.order, body, self.deadline));
        let ended = loop {
            let most = asked.len() > hedge.max_extra as usize;
            let due = delay.filter(|_| !most).map(|delay| begun + delay * asked.len() as u32);
            tokio::select! {
                biased;
                Some(ended) = running.next() => {
                    // While others are still under way, one of them may do better.
                    if ended.result.is_ok() || running.is_empty() {
                        break ended;
                    }
                }
                () = until(due) => match self.another_attempt(&asked) {
                    Some((attempt, body)) => {
                        asked.push(attempt.member.clone());
                        running.push(run(asked.len() - 1, attempt, self.order, body, self.deadline));
                    }
                    None => delay = None,
                },
            }
        };
        drop(running);
        if matches!(hedge.after, HedgeAfter::Percentile { .. }) && ended.result.is_ok() {
            // If a hedge has won, the first attempt took at least so long. The hedge's own time would be a second sample of
            // the same request, and pull the percentile down.
            self.upstream.carried.tries.latencies.record(begun.elapsed());
        }
        self.settle(&asked, ended, notes)
    }

    /// After which time an attempt takes long; none: that is not known yet.
    fn delay(&self, hedge: Hedge) -> Option<Duration> {
        match hedge.after {
            HedgeAfter::Delay(delay) => Some(delay),
            HedgeAfter::Percentile { share, min_samples } => {
                self.upstream.carried.tries.latencies.percentile(share, min_samples)
            }
        }
    }

    /// Another endpoint and another copy of the body.
    fn another_attempt(&self, asked: &[Arc<Member>]) -> Option<(Attempt, Supplied)> {
        let body = self.replay_body.beside()?;
        let tried = [self.tried.members.as_slice(), asked].concat();
        let attempt = self.upstream.pick(&self.order.affinity, &tried).ok()?;
        if self.told {
            attempt.repeats();
        }
        if self.upstream.carried.tries.budget.take(&self.order.rules.upstream.budget) {
            self.upstream.carried.tries.counts.hedge_sent();
            Some((attempt, body))
        } else {
            self.upstream.carried.tries.counts.hedge_refused();
            None
        }
    }

    /// Notes who was asked, and hands on what the last of them said.
    fn settle(
        &mut self,
        asked: &[Arc<Member>],
        ended: Ended,
        notes: &mut AttemptLog,
    ) -> Result<Response<Body>, Failure> {
        self.latest = Some(asked[ended.place].clone());
        let others = asked.iter().enumerate().filter(|(place, _)| *place != ended.place);
        self.hedged = others.map(|(_, member)| member.clone()).collect();
        let won = ended.place > 0 && ended.result.is_ok();
        if won {
            self.upstream.carried.tries.counts.hedge_won();
        }
        for (place, member) in asked.iter().enumerate().skip(1) {
            let why = if won && place == ended.place { Why::HedgeWon } else { Why::HedgeLost };
            let endpoint = member.endpoint().name.clone();
            notes.repeats.push(Repeat { why, endpoint });
        }
        notes.attempts += ended.notes.attempts + (asked.len() as u32 - 1);
        notes.endpoint = ended.notes.endpoint;
        notes.time = ended.notes.time;
        ended.result
    }
}

async fn run(
    place: usize,
    attempt: Attempt,
    order: &UpstreamRequest<'_>,
    body: Supplied,
    deadline: Option<Instant>,
) -> Ended {
    let mut notes = AttemptLog::default();
    let sent = send(&attempt, order, body, deadline, &mut notes).await;
    let result = conclude(attempt, sent, deadline, &mut notes);
    Ended { place, notes, result }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
