//! Counting draws in Redis.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Value};
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::counter::{
    BucketState, BucketStates, Counter, Draw, Settlement, Unavailable,
};

use super::Client;
use super::counts::End;
use super::link::Failure;
use super::names::Names;
use super::script::ScriptCall;
use super::settings::{Mode, OnUnavailable};
use super::slots;

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// The latest time, in seconds since 1970, that is accepted. In nanoseconds, sums of this time and the filling
/// time of a bucket stay in range.
const LATEST: u64 = 10_000_000_000;

/// Counts draws for all gateways of a fleet.
pub(super) struct RedisCounter {
    client: Arc<Client>,
    names: Names,
    /// The counter that is used while the servers are unreachable, if `on_unavailable` says so.
    local: Arc<dyn Counter>,
}

impl RedisCounter {
    pub(super) fn new(client: Arc<Client>, local: Arc<dyn Counter>) -> RedisCounter {
        let names = Names::derive(&client.secrets, "state counter");
        RedisCounter { client, names, local }
    }

    /// Lets the servers decide.
    async fn decide(&self, draws: &[Draw]) -> Result<BucketStates, Failure> {
        let Client { link, options, charge, .. } = self.client.as_ref();
        if options.mode == Mode::Cluster && draws.iter().any(|draw| tag_of(draw) != tag_of(&draws[0])) {
            return slots::decide(&self.client, &self.names, draws).await;
        }
        let answer = link.run(charge, &call(&self.names, draws), options.budget).await?;
        let reply = CounterReply::read(answer, draws).ok_or(Failure::Malformed)?;
        Ok(collect(reply.states(draws, reply.is_refused())))
    }

    /// Applies `on_unavailable` to draws that could not be counted.
    fn without(&self, draws: &[Draw]) -> Result<BucketStates, Unavailable> {
        let counts = &self.client.link.counts;
        match self.client.options.on_unavailable {
            OnUnavailable::Local => {
                counts.count(End::Local);
                let gateways = self.client.options.gateways;
                let shares: Vec<Draw> =
                    draws.iter().map(|draw| Draw { rate: draw.rate.share(gateways), ..*draw }).collect();
                let local = self.local.charge(&shares).at_once().unwrap_or(Err(Unavailable))?;
                let uncounted = local.as_slice().iter().map(|state| BucketState { counted: false, ..*state });
                Ok(collect(uncounted.collect()))
            }
            OnUnavailable::Allow => {
                counts.count(End::Allowed);
                Ok(collect(draws.iter().map(untouched).collect()))
            }
            OnUnavailable::Deny => {
                counts.count(End::Denied);
                Err(Unavailable)
            }
        }
    }
}

impl Counter for RedisCounter {
    fn charge<'a>(&'a self, draws: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>> {
        let counts = &self.client.link.counts;
        if !self.client.link.is_up() {
            counts.count(End::Unreachable);
            return MaybeReady::over(self.without(draws));
        }
        MaybeReady::waiting(async move {
            match self.decide(draws).await {
                Ok(states) => {
                    counts.count(End::Done);
                    Ok(states)
                }
                Err(failure) => {
                    counts.count(End::from(&failure));
                    self.without(draws)
                }
            }
        })
    }

    fn settle(&self, settled: Vec<Settlement>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.client.link.is_up() {
            let calls = settled.iter().map(|settled| settling(&self.names, settled)).collect();
            drop(runtime.spawn(settle(Arc::clone(&self.client), calls)));
        }
    }
}

/// Settles draws one after the other, each in the slot of its bucket.
async fn settle(client: Arc<Client>, calls: Vec<ScriptCall>) {
    for call in calls {
        let answer = client.link.run(&client.settle, &call, client.options.budget).await;
        client.link.counts.count(answer.map_or_else(|failure| End::from(&failure), |_| End::Done));
    }
}

/// The call of the script that settles. Its head describes the arguments.
fn settling(names: &Names, settled: &Settlement) -> ScriptCall {
    let Settlement { bucket, policy, rate, change } = *settled;
    let mut call = ScriptCall::default();
    call.keys.extend(names_of(names, &Draw { bucket, policy, cost: 0, rate }));
    call.push(if change < 0 { "earlier" } else { "later" });
    for time in [change.unsigned_abs().min(rate.capacity().saturating_mul(2)), rate.capacity()] {
        call.push(time / SECOND);
        call.push(time % SECOND);
    }
    call
}

/// The state of a full bucket.
pub(super) fn untouched(draw: &Draw) -> BucketState {
    BucketState {
        admitted: true,
        remaining: draw.rate.burst(),
        reset: Duration::ZERO,
        retry_after: Duration::ZERO,
        counted: false,
    }
}

pub(super) fn collect(mut states: Vec<BucketState>) -> BucketStates {
    match (states.len(), states.pop()) {
        (1, Some(state)) => BucketStates::One(state),
        (_, last) => {
            states.extend(last);
            BucketStates::Several(states)
        }
    }
}

/// The tag of a draw's bucket: 16 bits of the hash of which the bucket itself is one half.
pub(super) fn tag_of(draw: &Draw) -> u16 {
    let bucket = draw.bucket.to_le_bytes();
    u16::from_le_bytes([bucket[0], bucket[1]])
}

/// The names of a draw's bucket.
pub(super) fn names_of<'n>(names: &'n Names, draw: &Draw) -> impl Iterator<Item = String> + use<'n> {
    names.of('c', tag_of(draw), &[&draw.bucket.to_le_bytes()]).collect::<Vec<_>>().into_iter()
}

/// The call of the script. The head of the script describes the arguments.
pub(super) fn call(names: &Names, draws: &[Draw]) -> ScriptCall {
    let mut call = ScriptCall::default();
    call.push(names.count());
    for draw in draws {
        call.keys.extend(names_of(names, draw));
        let added = u128::from(draw.rate.unit()) * u128::from(draw.cost);
        let second = u128::from(SECOND);
        call.push(added / second);
        call.push(added % second);
        call.push(draw.rate.capacity() / SECOND);
        call.push(draw.rate.capacity() % SECOND);
        call.push(u8::from(draw.cost > 0));
    }
    call
}

/// The reply of the script: the time of the decision, and for each draw the time at which its bucket was full
/// before the draw, and whether the draw by itself was within the limit. Times are nanoseconds since 1970.
pub(super) struct CounterReply {
    pub(super) now: u64,
    pub(super) buckets: Vec<(u64, bool)>,
}

impl CounterReply {
    /// Parses the reply. `None` if it does not have the form that the script returns for these draws.
    pub(super) fn read(answer: Value, draws: &[Draw]) -> Option<CounterReply> {
        let numbers = Vec::<u64>::from_redis_value(answer).ok()?;
        let (now, reply) = numbers.split_at_checked(2)?;
        if reply.len() != 3 * draws.len() {
            return None;
        }
        let now = time(now)?;
        let bucket = |(draw, reply): (&Draw, &[u64])| {
            let (full, admitted) = (time(&reply[..2])?, reply[2] == 1);
            // Both sides know the limit, so they must agree on the decision.
            (draw.rate.charge(full, now, draw.cost).is_some() == admitted).then_some((full, admitted))
        };
        let buckets = draws.iter().zip(reply.chunks_exact(3)).map(bucket).collect::<Option<_>>()?;
        Some(CounterReply { now, buckets })
    }

    /// Whether one of the draws was refused, in which case none was charged.
    pub(super) fn is_refused(&self) -> bool {
        self.buckets.iter().any(|(_, admitted)| !admitted)
    }

    /// The states of the buckets if nothing was charged, or if everything was.
    pub(super) fn states(&self, draws: &[Draw], refused: bool) -> Vec<BucketState> {
        let state = |(draw, (full, admitted)): (&Draw, &(u64, bool))| {
            let after = draw.rate.charge(*full, self.now, draw.cost);
            let full = if refused { *full } else { after.unwrap_or(*full) };
            draw.rate.state(full, self.now, draw.cost, *admitted)
        };
        draws.iter().zip(&self.buckets).map(state).collect()
    }
}

/// A time in nanoseconds since 1970, from seconds and nanoseconds.
fn time(reply: &[u64]) -> Option<u64> {
    let [seconds, nanoseconds] = reply else { return None };
    (*seconds < LATEST && *nanoseconds < SECOND).then(|| seconds * SECOND + nanoseconds)
}

#[cfg(test)]
mod tests {
    use witgate_exchange::contracts::counter::Rate;

    use super::*;

    fn answer(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect())
    }

    #[test]
    fn an_answer_of_another_form_is_not_believed() {
        let rate = Rate::of(10, Duration::from_secs(10), 10).unwrap();
        let draws = [Draw { bucket: 1, policy: 1, cost: 1, rate }];
        let good = [1_800_000_000, 0, 1_800_000_003, 0, 1];
        let reply = CounterReply::read(answer(&good), &draws).expect("a good answer");
        assert_eq!(reply.states(&draws, false)[0].remaining, 6);
        assert_eq!(reply.states(&draws, true)[0].remaining, 7);
        let bad: [&[i64]; 9] = [
            &[],
            &[1],
            &good[..4],
            &[1_800_000_000, 0, 1_800_000_003, 0, 1, 1],
            &[1_800_000_000, 0, -1, 0, 1],
            &[1_800_000_000, 0, 1_800_000_003, 1_000_000_000, 1],
            &[1_800_000_000, 0, i64::MAX, 0, 0],
            // The reply refuses a draw for which there was room, and admits one for which there was none.
            &[1_800_000_000, 0, 1_800_000_003, 0, 0],
            &[1_800_000_000, 0, 1_800_000_010, 0, 1],
        ];
        for numbers in bad {
            assert!(CounterReply::read(answer(numbers), &draws).is_none(), "{numbers:?}");
        }
        assert!(CounterReply::read(Value::Okay, &draws).is_none());
        assert!(
            CounterReply::read(Value::Array(vec![Value::BulkString(b"x".to_vec()); 5]), &draws).is_none()
        );
    }
}
