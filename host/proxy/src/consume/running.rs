//! Which consumers fetch: those of the snapshot in service.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use witgate_config::model;
use witgate_exchange::contracts::broker::{Delivery, MessageSink, Subscription};

use super::status::Counts;
use super::{Consumer, Consumers};
use crate::listener::core::CoreCommand;
use crate::listener::data_plane::CoreShared;

/// Interval at which a consumer that is to begin checks whether the endpoints of the upstreams are known.
const ROUND: Duration = Duration::from_millis(20);

/// The consumers that fetch, and those that have stopped but have messages in progress.
#[derive(Default)]
pub(crate) struct RunningConsumers {
    fetching: Vec<Arc<Consumer>>,
    leaving: Vec<Arc<Consumer>>,
}

impl RunningConsumers {
    /// Ends the consumers that are not among the wanted ones, and begins those that do not fetch yet. A consumer is the same
    /// one only while its settings are equal.
    pub(crate) fn follow(&mut self, plane: &Arc<CoreShared>, wanted: &Consumers) {
        self.leaving.retain(|consumer| !consumer.is_idle());
        let is_wanted = |consumer: &Arc<Consumer>| {
            wanted.get(&*consumer.name).is_some_and(|wanted| Arc::ptr_eq(wanted, consumer))
        };
        let (kept, ended): (Vec<_>, Vec<_>) = self.fetching.drain(..).partition(is_wanted);
        self.fetching = kept;
        ended.iter().for_each(|consumer| consumer.stop());
        self.leaving.extend(ended);
        for consumer in wanted.values() {
            if !self.fetching.iter().any(|fetching| Arc::ptr_eq(fetching, consumer)) {
                self.fetching.push(Arc::clone(consumer));
                // A core ends only after the plane, so its receiver exists.
                let _ = plane.cores[0].orders.send(CoreCommand::Fetch(Arc::clone(consumer)));
            }
        }
    }

    /// Ends all consumers: nothing more is fetched, and what waits for its next try is given back.
    pub(crate) fn stop(&mut self) {
        self.fetching.iter().for_each(|consumer| consumer.stop());
        self.leaving.append(&mut self.fetching);
    }

    /// Whether no consumer that was stopped has a message in progress.
    pub(crate) fn are_over(&self) -> bool {
        self.leaving.iter().all(|consumer| consumer.is_idle())
    }
}

impl Consumer {
    /// Stops the fetching, and then what waits: what that gives back is not fetched here again.
    fn stop(&self) {
        let consuming = self.consuming().take();
        drop(consuming);
        self.pause.stop();
    }

    fn is_idle(&self) -> bool {
        self.unsettled.load(Ordering::Acquire) == 0
    }
}

/// Fetches for a consumer until it is stopped. Begins when the endpoints of the upstreams are known; listeners, routes and
/// plugins are in service by then.
pub(crate) async fn fetch(plane: Arc<CoreShared>, consumer: Arc<Consumer>) {
    while plane.snapshot.load().upstreams.await_endpoints() {
        if tokio::time::timeout(ROUND, consumer.pause.stopped()).await.is_ok() {
            return;
        }
    }
    let subscription = Subscription {
        consumer: Arc::clone(&consumer.name),
        from: consumer.settings.from.clone(),
        settings: consumer.settings.source.clone(),
        prefetch: consumer.settings.prefetch,
    };
    let sink = Arc::new(Distributor {
        plane,
        consumer: Arc::clone(&consumer),
        next: AtomicUsize::new(0),
        hasher: RandomState::new(),
    });
    let consuming = consumer.broker.consume(subscription, sink);
    *consumer.consuming() = Some(consuming);
    consumer.pause.stopped().await;
    // Dropped outside of the lock.
    let consuming = consumer.consuming().take();
    drop(consuming);
}

/// Distributes the messages of a consumer over the cores. Messages with the same key go to the same core, so that they stay
/// in order. No more of them are under way than the consumer prefetches.
struct Distributor {
    plane: Arc<CoreShared>,
    consumer: Arc<Consumer>,
    next: AtomicUsize,
    hasher: RandomState,
}

impl MessageSink for Distributor {
    fn deliver(&self, delivery: Delivery) {
        let by_key = self.consumer.settings.ordering == model::Ordering::Key;
        let chosen = match delivery.message.key.as_ref().filter(|_| by_key) {
            Some(key) => self.hasher.hash_one(key) as usize,
            None => self.next.fetch_add(1, Ordering::Relaxed),
        };
        let core = &self.plane.cores[chosen % self.plane.cores.len()];
        Counts::add(&self.consumer.counts.delivered);
        self.consumer.unsettled.fetch_add(1, Ordering::Relaxed);
        let command = CoreCommand::Deliver(Arc::clone(&self.consumer), delivery);
        if core.orders.send(command).is_err() {
            // The core has ended, and the message was given back when the command was dropped.
            self.consumer.unsettled.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
