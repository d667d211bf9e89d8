//! Queues in memory.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::*;

fn broker(settings: &serde_json::Value) -> Arc<dyn Broker> {
    let settings = Settings::unwritten("brokers.b", settings.as_object().cloned().expect("a table"));
    build(&settings, true).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn publish(
    broker: &Arc<dyn Broker>,
    to: &str,
    body: &str,
    ttl: Option<Duration>,
) -> Result<(), PublishFailure> {
    let message = Outgoing {
        id: body.to_owned(),
        to: to.to_owned(),
        key: None,
        content_type: None,
        headers: Vec::new(),
        body: Bytes::from(body.to_owned()),
        ttl,
        rooms: Vec::new(),
    };
    let mut publishing = broker.publish(message);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match publishing.as_mut().poll(&mut context) {
        std::task::Poll::Ready(outcome) => outcome,
        std::task::Poll::Pending => panic!("memory never waits"),
    }
}

/// Keeps what it gets.
#[derive(Default)]
struct Kept(Mutex<VecDeque<Delivery>>);

impl MessageSink for Kept {
    fn deliver(&self, delivery: Delivery) {
        self.0.lock().unwrap().push_back(delivery);
    }
}

impl Kept {
    /// The ids of what it has, in order.
    fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().filter_map(|delivery| delivery.message.id.clone()).collect()
    }

    fn settle(&self, how: Settlement) -> Incoming {
        let Delivery { message, settle } = self.0.lock().unwrap().pop_front().expect("a message");
        settle.settle(how);
        message
    }
}

fn consume(broker: &Arc<dyn Broker>, from: &str, prefetch: usize) -> (Arc<Kept>, Box<dyn Consuming>) {
    let kept = Arc::<Kept>::default();
    let settings = Settings::unwritten("source", serde_json::Map::new());
    let subscription = Subscription { consumer: "c".into(), from: from.to_owned(), settings, prefetch };
    let consuming = broker.consume(subscription, Arc::clone(&kept) as _);
    (kept, consuming)
}

#[test]
fn messages_are_delivered_in_order_and_within_the_prefetch() {
    let broker = broker(&json!({}));
    for body in ["1", "2", "3"] {
        publish(&broker, "q", body, None).unwrap();
    }
    let (kept, consuming) = consume(&broker, "q", 2);
    assert_eq!(kept.ids(), ["1", "2"]);
    kept.settle(Settlement::Acknowledged);
    assert_eq!(kept.ids(), ["2", "3"]);
    publish(&broker, "q", "4", None).unwrap();
    assert!(!kept.settle(Settlement::Returned).redelivered);
    assert_eq!(kept.ids(), ["3", "2"], "what is given back comes first");
    kept.settle(Settlement::Acknowledged);
    assert!(kept.settle(Settlement::Acknowledged).redelivered);
    assert_eq!(kept.ids(), ["4"]);
    drop(consuming);
    drop(kept);
    let (kept, _consuming) = consume(&broker, "q", 10);
    publish(&broker, "q", "5", None).unwrap();
    assert_eq!(
        kept.ids(),
        ["4", "5"],
        "dropped messages are given back, and a consumer that has ended gets none"
    );
}

#[test]
fn consumers_of_a_queue_share_its_messages() {
    let broker = broker(&json!({}));
    let ((one, _first), (two, _second)) = (consume(&broker, "q", 10), consume(&broker, "q", 10));
    for body in ["1", "2", "3", "4"] {
        publish(&broker, "q", body, None).unwrap();
    }
    assert_eq!((one.ids().len(), two.ids().len()), (2, 2));
}

#[test]
fn a_queue_is_bounded_and_old_messages_expire() {
    let broker = broker(&json!({ "max_messages": 2, "max_bytes": "5B" }));
    let (kept, consuming) = consume(&broker, "q", 1);
    publish(&broker, "q", "1", None).unwrap();
    publish(&broker, "q", "2", None).unwrap();
    let full = |outcome| matches!(outcome, Err(PublishFailure::Full(_)));
    assert!(full(publish(&broker, "q", "3", None)), "what a consumer holds counts");
    assert!(full(publish(&broker, "other", "1234", None)), "the bytes of all queues count together");
    kept.settle(Settlement::Acknowledged);
    assert_eq!(kept.ids(), ["2"]);
    publish(&broker, "q", "4", Some(Duration::ZERO)).unwrap();
    kept.settle(Settlement::Acknowledged);
    assert_eq!(kept.ids(), [""; 0], "it has expired");
    publish(&broker, "q", "12345", None).unwrap();
    assert_eq!(kept.ids(), ["12345"]);
    drop(consuming);
    let counts = broker.status().messages;
    assert!(counts.contains(&("confirmed", 4)) && counts.contains(&("failed", 2)), "{counts:?}");
}
