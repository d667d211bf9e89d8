//! Queues in this process. They are lost when it ends, and other gateways do not see them.
//!
//! Choose it to try things out, for tests, and for messages that may be lost. A queue exists from its first use on. It is
//! bounded: a message that finds it full is refused, which its sender is told.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::{Problems, Settings, scalar};
use witgate_exchange::contracts::broker::{
    Broker, BrokerKind, BrokerStatus, BuildResult, Capabilities, Consuming, Counters, Delivery, Incoming,
    MessageSink, Outgoing, PublishFailure, Publishing, Settle, Settlement, Subscription, Window,
};

/// The kind `memory`.
pub const KIND: BrokerKind = BrokerKind {
    name: "memory",
    summary: "queues in this process, which are lost when it ends",
    capabilities: Capabilities {
        durable: false,
        routed: false,
        expire: true,
        order: true,
        attempts: false,
        declare: false,
    },
    build,
};

/// The most queues, since a request may have a part in their names.
const MOST_QUEUES: usize = 10_000;

/// The most bytes of the name of a queue.
const LONGEST_NAME: usize = 255;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NewSettings {
    /// The most messages of one queue, those that consumers hold included.
    #[schemars(range(min = 1, max = 100_000_000))]
    max_messages: usize,
    /// The most bytes of the bodies of all queues together.
    max_bytes: scalar::Text<scalar::Size>,
}

impl Default for NewSettings {
    fn default() -> Self {
        NewSettings { max_messages: 10_000, max_bytes: scalar::Text::of("64MiB") }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SourceSettings {}

fn build(settings: &Settings, _serving: bool) -> BuildResult {
    let NewSettings { max_messages, max_bytes } = settings.parse()?;
    let max_bytes = max_bytes.value.in_memory();
    let queues = Queues { max_messages, max_bytes, ..Queues::default() };
    let shared = Arc::new(Shared { queues: Mutex::new(queues), counters: Counters::default() });
    Ok(Arc::new(Memory { shared, window: Window::new(max_messages, max_bytes), largest: max_bytes }))
}

/// The queues of one `[brokers.NAME]`.
struct Memory {
    shared: Arc<Shared>,
    window: Arc<Window>,
    largest: usize,
}

struct Shared {
    queues: Mutex<Queues>,
    counters: Counters,
}

#[derive(Default)]
struct Queues {
    max_messages: usize,
    max_bytes: usize,
    /// Bytes of all bodies, those that consumers hold included.
    bytes: usize,
    by_name: BTreeMap<String, Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Stored>,
    /// Messages that consumers hold.
    held: usize,
    consumers: VecDeque<Arc<Reader>>,
}

struct Stored {
    message: Incoming,
    bytes: usize,
    expires: Option<Instant>,
}

/// A consumer of a queue.
struct Reader {
    sink: Arc<dyn MessageSink>,
    prefetch: usize,
    /// Shared with the messages that it holds. These must not hold the consumer itself, which may be what keeps them.
    held: Arc<AtomicUsize>,
    stopped: AtomicBool,
}

impl Broker for Memory {
    fn capabilities(&self) -> &'static Capabilities {
        &KIND.capabilities
    }

    fn window(&self) -> &Arc<Window> {
        &self.window
    }

    fn largest(&self) -> usize {
        self.largest
    }

    fn may_fill(&self, part: &str) -> bool {
        !part.is_empty() && !part.chars().any(char::is_control)
    }

    fn check_target(&self, to: &str, _key: Option<&str>) -> Result<(), String> {
        match to.len() {
            0 => Err("the name of a queue is empty".to_owned()),
            1..=LONGEST_NAME => Ok(()),
            _ => Err(format!("the name of a queue is longer than {LONGEST_NAME} bytes")),
        }
    }

    fn check_source(&self, from: &str, settings: &Settings) -> Result<(), Problems> {
        settings.parse::<SourceSettings>()?;
        self.check_target(from, None).map_err(|why| vec![settings.problem("", why, None)])
    }

    fn publish(&self, message: Outgoing) -> Publishing {
        self.shared.counters.published.fetch_add(1, Ordering::Relaxed);
        let outcome = self.shared.store(message);
        self.shared.counters.end(&outcome);
        Box::pin(ready(outcome))
    }

    fn consume(&self, subscription: Subscription, sink: Arc<dyn MessageSink>) -> Box<dyn Consuming> {
        let Subscription { from, prefetch, .. } = subscription;
        let reader =
            Arc::new(Reader { sink, prefetch, held: Arc::default(), stopped: AtomicBool::new(false) });
        self.shared
            .queues()
            .by_name
            .entry(from.clone())
            .or_default()
            .consumers
            .push_back(Arc::clone(&reader));
        self.shared.hand_out(&from);
        Box::new(Reading { shared: Arc::clone(&self.shared), queue: from, reader })
    }

    fn close(&self, _within: Duration) {}

    fn status(&self) -> BrokerStatus {
        let queues = self.shared.queues();
        BrokerStatus {
            in_flight: self.window.messages(),
            in_flight_bytes: self.window.bytes(),
            messages: self.shared.counters.counts(),
            problem: None,
            last_error: queues.by_name.values().find_map(|queue| {
                (queue.waiting.len() + queue.held >= queues.max_messages)
                    .then(|| "a queue is full".to_owned())
            }),
        }
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(self: &Arc<Self>, message: Outgoing) -> Result<(), PublishFailure> {
        let Outgoing { id, to, key, content_type, headers, body, ttl, rooms: _rooms } = message;
        let bytes = body.len();
        {
            let queues = &mut *self.queues();
            if queues.bytes + bytes > queues.max_bytes {
                return Err(PublishFailure::Full(format!(
                    "the queues hold {} bytes (`max_bytes`)",
                    queues.bytes
                )));
            }
            if !queues.by_name.contains_key(&to) && queues.by_name.len() >= MOST_QUEUES {
                return Err(PublishFailure::Refused(format!("there are {MOST_QUEUES} queues already")));
            }
            let queue = queues.by_name.entry(to.clone()).or_default();
            if queue.waiting.len() + queue.held >= queues.max_messages {
                let most = queues.max_messages;
                return Err(PublishFailure::Full(format!(
                    "the queue holds {most} messages (`max_messages`)"
                )));
            }
            let message = Incoming {
                id: Some(id),
                key,
                content_type,
                headers,
                body: Some(body),
                deliveries: 0,
                redelivered: false,
            };
            queue.waiting.push_back(Stored { message, bytes, expires: ttl.map(|ttl| Instant::now() + ttl) });
            queues.bytes += bytes;
        }
        self.hand_out(&to);
        Ok(())
    }

    /// Hands waiting messages to consumers that have room, in turn.
    fn hand_out(self: &Arc<Self>, name: &str) {
        loop {
            let (reader, stored) = {
                let queues = &mut *self.queues();
                let Some(queue) = queues.by_name.get_mut(name) else { return };
                let now = Instant::now();
                while queue.waiting.front().is_some_and(|stored| stored.expires.is_some_and(|at| at <= now)) {
                    queues.bytes -= queue.waiting.pop_front().map_or(0, |stored| stored.bytes);
                }
                queue.consumers.retain(|reader| !reader.stopped.load(Ordering::Relaxed));
                let free = |reader: &Arc<Reader>| reader.held.load(Ordering::Relaxed) < reader.prefetch;
                let Some(at) = queue.consumers.iter().position(free) else { return };
                let Some(stored) = queue.waiting.pop_front() else { return };
                queue.consumers.rotate_left(at);
                let reader = Arc::clone(&queue.consumers[0]);
                queue.consumers.rotate_left(1);
                reader.held.fetch_add(1, Ordering::Relaxed);
                queue.held += 1;
                (reader, stored)
            };
            self.counters.deliver(&stored.message);
            let message = stored.message.clone();
            let (shared, name, held) = (Arc::clone(self), name.to_owned(), Arc::clone(&reader.held));
            let settle = Settle::new(move |how| shared.settle(&name, &held, stored, how));
            reader.sink.deliver(Delivery { message, settle });
        }
    }

    fn settle(self: &Arc<Self>, name: &str, held: &AtomicUsize, mut stored: Stored, how: Settlement) {
        {
            let queues = &mut *self.queues();
            held.fetch_sub(1, Ordering::Relaxed);
            let Some(queue) = queues.by_name.get_mut(name) else { return };
            queue.held -= 1;
            match how {
                Settlement::Acknowledged => queues.bytes -= stored.bytes,
                Settlement::Returned => {
                    stored.message.redelivered = true;
                    queue.waiting.push_front(stored);
                }
            }
            if queue.held == 0 && queue.waiting.is_empty() && queue.consumers.is_empty() {
                queues.by_name.remove(name);
            }
        }
        self.hand_out(name);
    }
}

/// Stops the fetching when it is dropped.
struct Reading {
    shared: Arc<Shared>,
    queue: String,
    reader: Arc<Reader>,
}

impl Consuming for Reading {
    fn problem(&self) -> Option<String> {
        None
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.reader.stopped.store(true, Ordering::Relaxed);
        self.shared.hand_out(&self.queue);
    }
}
