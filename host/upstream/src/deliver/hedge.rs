//! Hedging: if an attempt takes long, the request is also sent to other endpoints, and the first response is used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Response;
use tokio::time::sleep_until;
use witgate_config::model::{Hedge, HedgeAfter};
use witgate_exchange::body::Body;
use witgate_exchange::record::{Repeat, Why};

use super::super::request::UpstreamRequest;
use super::super::send::{Failure, conclude, send};
use super::super::set::Member;
use super::{AttemptLog, Delivery, Supplied};
use crate::pick::attempt::Attempt;

/// An attempt that has ended.
struct Ended {
    /// The index among the endpoints that were asked; 0 is the first.
    place: usize,
    notes: AttemptLog,
    result: Result<Response<Body>, Failure>,
}

impl Delivery<'_> {
    /// Makes an attempt. Each time the attempt takes longer than `hedge` allows, the request is also sent to
    /// another endpoint, if there is one, if the body can already be sent a second time, and if the retry budget
    /// allows it. Once an endpoint has responded, the other attempts are given up: their connections are closed,
    /// or their streams are reset.
    pub(crate) async fn hedge(
        &mut self,
        hedge: Hedge,
        attempt: Attempt,
        body: Supplied,
        notes: &mut AttemptLog,
    ) -> Result<Response<Body>, Failure> {
        let begun = Instant::now();
        let mut asked = vec![attempt.member.clone()];
        let attempts = notes.attempts;
        notes.begin(attempt.endpoint());
        notes.sent(begun);
        let mut delay = self.delay(hedge);
        let mut running = FuturesUnordered::new();
        running.push(run(0, attempt, self.order, body, self.deadline));
        let ended = loop {
            let most = asked.len() > hedge.max_extra as usize;
            let due = delay.filter(|_| !most).map(|delay| begun + delay * asked.len() as u32);
            tokio::select! {
                biased;
                Some(ended) = running.next() => {
                    // While other attempts are in flight, one of them may succeed.
                    if ended.result.is_ok() || running.is_empty() {
                        break ended;
                    }
                }
                () = until(due) => match self.another_attempt(&asked) {
                    Some((attempt, body)) => {
                        asked.push(attempt.member.clone());
                        // Recorded at once, in case that the client leaves before any endpoint responds.
                        notes.attempts += 1;
                        running.push(run(asked.len() - 1, attempt, self.order, body, self.deadline));
                    }
                    None => delay = None,
                },
            }
        };
        drop(running);
        if matches!(hedge.after, HedgeAfter::Percentile { .. }) && ended.result.is_ok() {
            // If a hedge has won, the first attempt took at least this long. The hedge's own time is not recorded:
            // it would be a second sample of the same request, and lower the percentile.
            self.upstream.carried.tries.latencies.record(begun.elapsed());
        }
        notes.attempts = attempts;
        self.settle(&asked, ended, notes)
    }

    /// The time after which an attempt counts as taking long. `None` if too few latencies are known.
    fn delay(&self, hedge: Hedge) -> Option<Duration> {
        match hedge.after {
            HedgeAfter::Delay(delay) => Some(delay),
            HedgeAfter::Percentile { share, min_samples } => {
                self.upstream.carried.tries.latencies.percentile(share, min_samples)
            }
        }
    }

    /// Picks another endpoint, and makes another copy of the body.
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

    /// Records the endpoints that were asked, and returns the result of the attempt that ended last.
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
        notes.take_attempt(ended.notes);
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
