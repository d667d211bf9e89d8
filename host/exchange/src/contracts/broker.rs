//! The interface of brokers: where messages are published to, and where consumers get them from.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use witgate_config::{Problems, Settings};

/// One `[brokers.NAME]`: one connection, which is made anew for ever. It is kept through reloads for as long as its
/// settings are equal. Usable from any thread; no function waits.
pub trait Broker: Send + Sync {
    /// What its kind can do.
    fn capabilities(&self) -> &'static Capabilities;

    /// The room for messages that are being published.
    fn window(&self) -> &Arc<Window>;

    /// The most bytes of a body that it takes.
    fn largest(&self) -> usize;

    /// Whether a text that a request chose may be a part of `to` or of the key.
    fn may_fill(&self, part: &str) -> bool;

    /// Whether the key alone decides which queue gets a message that is published there.
    fn key_is_the_queue(&self, _to: &str) -> bool {
        false
    }

    /// Whether a message can have this target.
    ///
    /// # Errors
    /// Why not, as a sentence without its end.
    fn check_target(&self, to: &str, key: Option<&str>) -> Result<(), String>;

    /// Checks what a consumer of this broker says of its source.
    ///
    /// # Errors
    /// All problems of `from` and of the settings that only the kind understands.
    fn check_source(&self, from: &str, settings: &Settings) -> Result<(), Problems>;

    /// Publishes a message. The future ends when the broker has confirmed or refused it. A message that was handed over is
    /// published even if the future is dropped.
    fn publish(&self, message: Outgoing) -> Publishing;

    /// Begins to deliver messages to a sink, for ever: a broker that is away is connected to again.
    fn consume(&self, subscription: Subscription, sink: Arc<dyn MessageSink>) -> Box<dyn Consuming>;

    /// Waits, at most this long, until the broker was told what became of the messages that were settled, and closes the
    /// connection. The process ends after it.
    fn close(&self, within: Duration);

    /// Its condition and its counts.
    fn status(&self) -> BrokerStatus;
}

/// A message that is being published.
pub type Publishing = Pin<Box<dyn Future<Output = Result<(), PublishFailure>> + Send>>;

/// What a kind of broker can do: a row of the table in the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether a 2xx means that the message outlives the broker's process.
    pub durable: bool,
    /// Whether a message that no queue takes is a fault.
    pub routed: bool,
    /// Whether messages can expire (`ttl`).
    pub expire: bool,
    /// Whether messages of a source are delivered in the order in which they were published.
    pub order: bool,
    /// Whether the broker counts how often a message was delivered.
    pub attempts: bool,
    /// Whether the gateway can create the source of a consumer (`declare`).
    pub declare: bool,
}

/// A kind of broker: a row of the table of kinds.
pub struct BrokerKind {
    /// The name in the configuration.
    pub name: &'static str,
    /// When to choose it, in one sentence.
    pub summary: &'static str,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Makes a broker. Called by a load, never on the data path. If `serving` is not set, only the settings are checked: no
    /// thread is started, and nothing is connected to.
    ///
    /// # Errors
    /// All problems of its settings, unknown keys included.
    pub build: fn(&Settings, serving: bool) -> BuildResult,
}

/// A broker, or all problems of its settings.
pub type BuildResult = Result<Arc<dyn Broker>, Problems>;

/// A message on its way to a broker.
pub struct Outgoing {
    /// Its unique id.
    pub id: String,
    /// The exchange, queue or subject.
    pub to: String,
    /// The routing key, or the key by which messages are kept in order.
    pub key: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, Bytes)>,
    /// The body.
    pub body: Bytes,
    /// The time after which the broker drops the message if nobody took it.
    pub ttl: Option<Duration>,
    /// The room that it takes until the broker has confirmed or refused it.
    pub rooms: Vec<Room>,
}

/// Why a message was not published, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishFailure {
    /// The broker is not connected. The message was not stored.
    Unreachable(String),
    /// The broker, or the room of the gateway, is full. The message was not stored.
    Full(String),
    /// The broker refused the message. It was not stored.
    Refused(String),
    /// No queue takes the message. It was not stored.
    Unroutable(String),
    /// The connection was lost before the confirm. The message may have been stored.
    Lost(String),
}

/// What a consumer wants.
pub struct Subscription {
    /// Name of the consumer.
    pub consumer: Arc<str>,
    /// The queue or subject.
    pub from: String,
    /// The settings that only the kind understands.
    pub settings: Settings,
    /// The most messages that are delivered and not settled.
    pub prefetch: usize,
}

/// Takes the messages of one consumer. Usable from any thread; never waits.
pub trait MessageSink: Send + Sync {
    /// Takes a message. At most as many messages as the subscription's `prefetch` are not settled at one time.
    fn deliver(&self, delivery: Delivery);
}

/// A consumer at work. Dropping it stops the fetching; messages that were delivered can still be settled.
pub trait Consuming: Send + Sync {
    /// Why nothing is fetched at the moment; `None` if nothing is wrong.
    fn problem(&self) -> Option<String>;
}

/// A message that came from a broker. Everything in it is a stranger's.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// The routing key, or the key by which messages are kept in order.
    pub key: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, Bytes)>,
    /// The body; `None` for a message without one, such as a tombstone.
    pub body: Option<Bytes>,
    /// How often the broker says that it was delivered before.
    pub deliveries: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

/// A message, and the way to settle it.
pub struct Delivery {
    /// The message.
    pub message: Incoming,
    /// Tells the broker what became of it.
    pub settle: Settle,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with.
    Acknowledged,
    /// It is given back, to be delivered again to whoever consumes.
    Returned,
}

/// Settles a message exactly once. If it is dropped, the message is [`Returned`](Settlement::Returned).
pub struct Settle(Option<Box<dyn FnOnce(Settlement) + Send>>);

impl Settle {
    /// Calls this function with the settlement.
    pub fn new(tell: impl FnOnce(Settlement) + Send + 'static) -> Settle {
        Settle(Some(Box::new(tell)))
    }

    /// Settles the message.
    pub fn settle(mut self, settlement: Settlement) {
        if let Some(tell) = self.0.take() {
            tell(settlement);
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Settlement::Returned);
        }
    }
}

/// The condition of a broker and what it has done since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Why it is not connected, as a sentence; `None` while it is.
    pub problem: Option<String>,
    /// The failure that was met last, whether or not it is over.
    pub last_error: Option<String>,
    /// Messages that are being published.
    pub in_flight: usize,
    /// Bytes of the bodies of these messages.
    pub in_flight_bytes: usize,
    /// The counts, by name. The names are values of a metric's label.
    pub messages: Vec<(&'static str, u64)>,
}

/// Counts the messages of a broker.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that were handed over to be published.
    pub published: AtomicU64,
    /// Messages that the broker has confirmed.
    pub confirmed: AtomicU64,
    /// Messages that no queue took.
    pub returned: AtomicU64,
    /// Messages that were not published, or may not have been, for any other reason.
    pub failed: AtomicU64,
    /// Messages that were delivered to consumers.
    pub consumed: AtomicU64,
    /// Those of them that may have been delivered before.
    pub redelivered: AtomicU64,
}

impl Counters {
    /// Counts how the publishing of a message ended.
    pub fn end(&self, outcome: &Result<(), PublishFailure>) {
        let counter = match outcome {
            Ok(()) => &self.confirmed,
            Err(PublishFailure::Unroutable(_)) => &self.returned,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a delivered message.
    pub fn deliver(&self, message: &Incoming) {
        self.consumed.fetch_add(1, Ordering::Relaxed);
        if message.redelivered {
            self.redelivered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts by name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = [
            ("published", &self.published),
            ("confirmed", &self.confirmed),
            ("returned", &self.returned),
            ("failed", &self.failed),
            ("consumed", &self.consumed),
            ("redelivered", &self.redelivered),
        ];
        counts.into_iter().map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
    }
}

/// Room for a number of messages and bytes.
#[derive(Debug)]
pub struct Window {
    most_messages: usize,
    most_bytes: usize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Window {
    /// Room for this many messages whose bodies have this many bytes together.
    pub fn new(most_messages: usize, most_bytes: usize) -> Arc<Window> {
        Arc::new(Window {
            most_messages,
            most_bytes,
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        })
    }

    /// Takes the room of one message without bytes; `None` if there is none left.
    pub fn enter(self: &Arc<Window>) -> Option<Room> {
        take(&self.messages, 1, self.most_messages).then(|| Room { window: Arc::clone(self), bytes: 0 })
    }

    /// The messages that are in it.
    pub fn messages(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    /// The bytes that are in it.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn take(taken: &AtomicUsize, more: usize, most: usize) -> bool {
    let add = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= most);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

/// The room that one message takes, until it is dropped.
#[derive(Debug)]
pub struct Room {
    window: Arc<Window>,
    bytes: usize,
}

impl Room {
    /// Takes room for further bytes of the message. False: there is not enough left.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let grown = take(&self.window.bytes, bytes, self.window.most_bytes);
        self.bytes += if grown { bytes } else { 0 };
        grown
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.window.messages.fetch_sub(1, Ordering::Relaxed);
        self.window.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;

    #[test]
    fn a_window_bounds_messages_and_bytes_and_gives_room_back() {
        let window = Window::new(2, 10);
        let mut first = window.enter().expect("room");
        assert!(first.grow(4) && first.grow(4) && !first.grow(4), "10 bytes are the most");
        let mut second = window.enter().expect("room");
        assert!(window.enter().is_none(), "2 messages are the most");
        assert!(second.grow(2) && !second.grow(1) && !second.grow(usize::MAX));
        drop(first);
        assert_eq!((window.messages(), window.bytes()), (1, 2));
        assert!(second.grow(8) && window.enter().is_some());
        drop(second);
        assert_eq!((window.messages(), window.bytes()), (0, 0));
    }

    #[test]
    fn a_message_that_is_dropped_is_returned() {
        let (told, heard) = sync_channel(2);
        let settle = |told: SyncSender<_>| Settle::new(move |how| told.send(how).expect("heard"));
        drop(settle(told.clone()));
        settle(told).settle(Settlement::Acknowledged);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [Settlement::Returned, Settlement::Acknowledged]);
    }
}
