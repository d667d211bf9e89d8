//! One message, from its delivery until it is settled.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::{OwnedMutexGuard, SemaphorePermit};
use witgate_config::model;
use witgate_exchange::arrival::{Arrival, Completion, Ingress, Outcome, Source};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::broker::{Delivery, Incoming, Settle, Settlement};
use witgate_exchange::fault::FaultKind;
use witgate_exchange::turn;

use super::status::Counts;
use super::verdict::{self, Reason, Verdict};
use super::{Consumer, request};
use crate::gateway::Gateway;
use crate::serve::serve;

/// The pause of a consumer when the gateway could not take a message and nothing says for how long.
const USUAL_PAUSE: Duration = Duration::from_secs(1);

/// Takes a message to its end on this core, in a task of its own.
pub(crate) fn spawn(gateway: &Gateway, consumer: Arc<Consumer>, delivery: Delivery) {
    let gateway = gateway.clone();
    tokio::task::spawn_local(async move {
        let unsettled = Unsettled(consumer);
        turn::by_turns(pin!(deliver(&gateway, &unsettled.0, delivery))).await;
    });
}

/// Guard: a message of the consumer is not settled.
struct Unsettled(Arc<Consumer>);

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::Release);
    }
}

/// Tries the message until something has become of it. Whatever ends this early, or drops it, gives the message back to the
/// broker.
async fn deliver(gateway: &Gateway, consumer: &Consumer, delivery: Delivery) {
    let Delivery { message, settle } = delivery;
    let Some(_order) = wait_for_predecessors(consumer, &message).await else {
        return give_back(consumer, settle);
    };
    if !consumer.filter.hold(|name| values(&message, name)) {
        return acknowledge(settle, &consumer.counts.discarded);
    }
    // What the broker has delivered before counts, so that a message that ends the process is not tried for ever.
    let mut attempts = message.deliveries;
    let mut reason = Reason { code: "attempts", status: None, after: None };
    while attempts < consumer.settings.attempts {
        let Some(permit) = may_begin(consumer).await else { return give_back(consumer, settle) };
        attempts += 1;
        let verdict = attempt(gateway, consumer, &message, attempts).await;
        drop(permit);
        match verdict {
            Verdict::Done => return acknowledge(settle, &consumer.counts.acknowledged),
            Verdict::Discard => return acknowledge(settle, &consumer.counts.discarded),
            Verdict::Vanished => return give_back(consumer, settle),
            Verdict::Wait(why) => {
                attempts -= 1;
                let longest = consumer.settings.backoff.max.max(USUAL_PAUSE);
                let pause = why.after.unwrap_or(USUAL_PAUSE).min(longest);
                consumer.pause.until(Instant::now() + pause, why.code);
            }
            Verdict::Refused(why) => {
                reason = why;
                break;
            }
            Verdict::Again(why) => {
                let wait = wait(&consumer.settings.backoff, attempts, why.after);
                reason = why;
                if attempts >= consumer.settings.attempts {
                    break;
                }
                Counts::add(&consumer.counts.tried_again);
                if tokio::time::timeout(wait, consumer.pause.stopped()).await.is_ok() {
                    return give_back(consumer, settle);
                }
            }
        }
    }
    if consumer.store_dead_letter(&gateway.telemetry, &message, &reason, attempts).await {
        return acknowledge(settle, &consumer.counts.dead_lettered);
    }
    give_back(consumer, settle);
}

/// Waits for the place in the line of messages with the same key. `None`: the consumer ends.
async fn wait_for_predecessors(
    consumer: &Consumer,
    message: &Incoming,
) -> Option<Option<OwnedMutexGuard<()>>> {
    let Some(key) = message.key.as_ref().filter(|_| consumer.settings.ordering == model::Ordering::Key)
    else {
        return Some(None);
    };
    let line = consumer.line(key);
    tokio::select! {
        // In this order, so that the place is taken at the first poll.
        biased;
        place = line.lock_owned() => Some(Some(place)),
        () = consumer.pause.stopped() => None,
    }
}

/// Waits until the consumer may begin a request. `None`: the consumer ends.
async fn may_begin(consumer: &Consumer) -> Option<SemaphorePermit<'_>> {
    loop {
        if !consumer.pause.is_over().await {
            return None;
        }
        let permit = tokio::select! {
            permit = consumer.requests.acquire() => permit.ok()?,
            () = consumer.pause.stopped() => return None,
        };
        // Something may have become wrong while this message waited for its permit.
        if consumer.pause.code().is_none() {
            return Some(permit);
        }
    }
}

/// The values of a header of a message.
fn values<'m>(message: &'m Incoming, name: &str) -> Vec<&'m [u8]> {
    let named = message.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| &value[..]).collect()
}

fn acknowledge(settle: Settle, counter: &std::sync::atomic::AtomicU64) {
    Counts::add(counter);
    settle.settle(Settlement::Acknowledged);
}

fn give_back(consumer: &Consumer, settle: Settle) {
    Counts::add(&consumer.counts.returned);
    settle.settle(Settlement::Returned);
}

/// A random wait from half of a bound to the whole of it. The bound doubles with every attempt. A longer `Retry-After` is
/// respected, up to the longest wait.
fn wait(backoff: &model::Backoff, attempts: u32, after: Option<Duration>) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let bound = backoff.base.saturating_mul(1 << doublings).min(backoff.max);
    let random = bound.mul_f64(0.5 + fastrand::f64() / 2.0);
    after.map_or(random, |after| random.max(after.min(backoff.max)))
}

/// One walk of the message's request. Its record, log line and span are those of every request.
async fn attempt(gateway: &Gateway, consumer: &Consumer, message: &Incoming, attempt: u32) -> Verdict {
    let request = match request::request(consumer, message, attempt) {
        Ok(request) => request,
        Err(why) => {
            gateway.telemetry.log(
                model::LogLevel::Warn,
                "a message cannot become a request",
                &[("why", &why)],
            );
            return Verdict::Refused(Reason { code: "message-malformed", status: None, after: None });
        }
    };
    let has_token = request::token(consumer, message).is_some();
    let mut ingress =
        Ingress::new(Source::Message, consumer.settings.listener.as_str().into(), None, consumer.limits);
    ingress.identity = consumer.identity.clone().filter(|_| !has_token);
    let told = Rc::new(Cell::new(Outcome::Abandoned));
    let tell = Rc::clone(&told);
    let arrival = Arrival {
        deadline: Some(Instant::now() + consumer.settings.timeout),
        completion: Completion::new(move |outcome| tell.set(outcome)),
        ..Arrival::new(Rc::new(ingress))
    };
    let walk = AssertUnwindSafe(walk(gateway, arrival, request)).catch_unwind();
    match walk.await {
        Ok((status, headers)) => verdict::of(&consumer.settings, told.get(), status, &headers),
        Err(_) => {
            let status = Some(StatusCode::INTERNAL_SERVER_ERROR);
            Verdict::Again(Reason { code: FaultKind::Internal.describe().code, status, after: None })
        }
    }
}

/// Serves the request and reads the response to its end. Only then is the outcome told.
async fn walk(gateway: &Gateway, arrival: Arrival, mut request: Request<Body>) -> (StatusCode, HeaderMap) {
    let response = serve(gateway, arrival, &mut request, None).await;
    let (head, mut body) = response.into_parts();
    while let Some(Ok(_)) = body.frame().await {}
    (head.status, head.headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_respect_retry_after() {
        let backoff = model::Backoff { base: Duration::from_secs(1), max: Duration::from_secs(10) };
        for (attempts, bound) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (1000, 10)] {
            let waited = wait(&backoff, attempts, None);
            let bound = Duration::from_secs(bound);
            assert!(waited >= bound / 2 && waited <= bound, "{attempts}: {waited:?}");
        }
        assert_eq!(wait(&backoff, 1, Some(Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(wait(&backoff, 1, Some(Duration::from_secs(500))), backoff.max);
    }
}
