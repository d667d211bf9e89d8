//! Publishing to a broker that only exists here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::Method;
use witgate_config::model::PathMatch;
use witgate_config::{Problems, Settings};
use witgate_exchange::contracts::broker::{
    BrokerStatus, Capabilities, Consuming, MessageSink, Publishing, Subscription,
};
use witgate_exchange::identity::Identity;

use super::*;
use crate::destination::Brokers;
use crate::router::Pattern;
use crate::testing;

static CAPABILITIES: Capabilities = Capabilities {
    durable: false,
    routed: false,
    expire: false,
    order: false,
    attempts: false,
    declare: false,
};

/// Takes messages of up to ten bytes, ends all of them in the same way, and keeps them. Asterisks have a meaning for it.
pub(crate) struct FakeBroker {
    outcome: Option<Result<(), PublishFailure>>,
    window: Arc<Window>,
    pub(crate) published: Mutex<Vec<Outgoing>>,
}

impl FakeBroker {
    pub(crate) fn new(outcome: Result<(), PublishFailure>) -> Arc<FakeBroker> {
        Arc::new(FakeBroker {
            outcome: Some(outcome),
            window: Window::new(2, 15),
            published: Mutex::default(),
        })
    }

    /// It never confirms.
    fn silent() -> Arc<FakeBroker> {
        Arc::new(FakeBroker { outcome: None, window: Window::new(2, 15), published: Mutex::default() })
    }

    pub(crate) fn named(self: Arc<Self>) -> Brokers {
        BTreeMap::from([("b".to_owned(), self as Arc<dyn Broker>)])
    }
}

impl Broker for FakeBroker {
    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn window(&self) -> &Arc<Window> {
        &self.window
    }

    fn largest(&self) -> usize {
        10
    }

    fn may_fill(&self, part: &str) -> bool {
        !part.is_empty() && !part.contains('*')
    }

    fn key_is_the_queue(&self, to: &str) -> bool {
        to.is_empty()
    }

    fn check_target(&self, to: &str, key: Option<&str>) -> Result<(), String> {
        if to == "amq" || to.is_empty() && key.is_none() {
            Err("it is the broker's own".to_owned())
        } else {
            Ok(())
        }
    }

    fn check_source(&self, _from: &str, _settings: &Settings) -> Result<(), Problems> {
        Ok(())
    }

    fn publish(&self, mut message: Outgoing) -> Publishing {
        let rooms = std::mem::take(&mut message.rooms);
        self.published.lock().unwrap().push(message);
        let outcome = self.outcome.clone();
        Box::pin(async move {
            let _rooms = rooms;
            match outcome {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        })
    }

    fn consume(&self, _: Subscription, _: Arc<dyn MessageSink>) -> Box<dyn Consuming> {
        unreachable!("nobody consumes here")
    }

    fn close(&self, _within: Duration) {}

    fn status(&self) -> BrokerStatus {
        BrokerStatus::default()
    }
}

/// A publishing action with these further keys.
pub(crate) fn action(keys: &str) -> Action {
    let text = format!(
        "[brokers.b]\nkind = \"memory\"\n[[routes]]\npath = \"/orders/{{id}}\"\n[routes.publish]\nbroker = \"b\"\n{keys}\n"
    );
    let loaded = witgate_config::parse_str(&text);
    let mut config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
    config.routes.remove(0).action
}

fn built(broker: &Arc<FakeBroker>, keys: &str) -> Result<Publish, Mistake> {
    let pattern = Pattern::parse(Some(&PathMatch::Pattern("/orders/{id}".to_owned())));
    let Ok(pattern) = pattern else { panic!("a test's path") };
    let action = action(keys);
    let inputs = BuildInputs {
        action: &action,
        pattern: &pattern,
        upstreams: &testing::upstreams(0, []),
        brokers: &Arc::clone(broker).named(),
        merge_slashes: true,
        around: Default::default(),
        cache: None,
    };
    let Action::Publish(settings) = &action else { panic!("it publishes") };
    Publish::compile(settings, &inputs)
}

/// Publishes a request with this id in its path.
fn publish(
    publish: &Publish,
    id: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Result<Response<Body>, Fault> {
    let mut head = testing::head(Method::POST, "/orders/x", headers);
    head.parameters = vec![("id".into(), id.to_owned())];
    let identity = Identity {
        subject: "anna".to_owned(),
        claims: vec![("tenant".to_owned(), "eu".to_owned())],
        binding: "jwt".into(),
    };
    head.identity = Some(Arc::new(identity));
    let mut facts = testing::facts(head);
    testing::run(publish.serve(&mut facts, Body::from(Bytes::from_static(body.as_bytes()))))
}

fn kind(result: Result<Response<Body>, Fault>) -> FaultKind {
    result.expect_err("a fault").kind
}

#[test]
fn a_request_becomes_a_message_and_its_response_names_it() {
    let broker = FakeBroker::new(Ok(()));
    let keys = "to = \"orders.{claim:tenant}\"\nallow = [\"orders.eu\"]\nkey = \"{id}-{header:x-a}-{subject}\"\nheaders = [\"x-b\"]";
    let route = built(&broker, keys).unwrap();
    let headers = [
        ("x-a", "1"),
        ("x-b", "2"),
        ("x-b", "3"),
        ("x-c", "4"),
        ("authorization", "secret"),
        ("cookie", "secret"),
        ("content-type", "text/plain"),
        ("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"),
    ];
    let response = publish(&route, "7", &headers, "body").unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let document = testing::run(testing::bytes(response.into_body())).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let published = broker.published.lock().unwrap();
    let [message] = &published[..] else { panic!("one message") };
    assert_eq!(document["id"], message.id);
    assert_eq!((message.to.as_str(), message.key.as_deref()), ("orders.eu", Some("7-1-anna")));
    assert_eq!((&message.body[..], message.content_type.as_deref()), (&b"body"[..], Some("text/plain")));
    let names: Vec<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["traceparent", "x-b"], "credentials and what is not named stay here");
    assert_eq!(message.headers[1].1, "2, 3");
    assert_eq!((broker.window.messages(), broker.window.bytes()), (0, 0));
}

#[test]
fn what_has_a_meaning_for_the_broker_is_refused() {
    let broker = FakeBroker::new(Ok(()));
    let route = built(&broker, "to = \"{header:x-to}\"\nallow = [\"a\", \"b\"]\nkey = \"{id}\"").unwrap();
    assert!(publish(&route, "1", &[("x-to", "a")], "").is_ok());
    for (id, to) in [("1", "c"), ("*", "a"), ("", "a"), ("1", "a*"), ("1", "amq")] {
        assert_eq!(kind(publish(&route, id, &[("x-to", to)], "")), FaultKind::BadMessage, "{id} {to}");
    }
    assert_eq!(kind(publish(&route, "1", &[], "")), FaultKind::BadMessage, "the header is missing");
    assert_eq!(kind(publish(&route, "1", &[("x-to", "a"), ("x-to", "b")], "")), FaultKind::BadMessage);
    let bytes = kind(publish(&route, "1", &[("x-to", "\u{fc}")], ""));
    assert_eq!(bytes, FaultKind::BadMessage);
    assert_eq!(broker.published.lock().unwrap().len(), 1);
    for keys in [
        "to = \"amq\"",
        "to = \"{id}\"\nallow = [\"amq\"]",
        "to = \"a\"\nttl = \"1s\"",
        "to = \"\"",
        "to = \"\"\nkey = \"{id}\"",
    ] {
        assert!(built(&broker, keys).is_err(), "{keys}");
    }
    assert!(
        built(&broker, "to = \"\"\nkey = \"q\"").is_ok()
            && built(&broker, "to = \"e\"\nkey = \"{id}\"").is_ok()
    );
}

#[test]
fn every_failure_is_told_by_a_fault_of_its_own() {
    for (failure, expected, status) in [
        (PublishFailure::Unreachable(String::new()), FaultKind::BrokerUnreachable, 503),
        (PublishFailure::Full(String::new()), FaultKind::BrokerOverloaded, 503),
        (PublishFailure::Refused(String::new()), FaultKind::BrokerRefused, 503),
        (PublishFailure::Unroutable(String::new()), FaultKind::MessageUnroutable, 502),
        (PublishFailure::Lost(String::new()), FaultKind::BrokerLost, 503),
    ] {
        let broker = FakeBroker::new(Err(failure));
        let found = kind(publish(&built(&broker, "to = \"a\"").unwrap(), "1", &[], ""));
        assert_eq!((found, found.describe().status.as_u16()), (expected, status));
        let title = found.describe().title;
        let unknown = matches!(found, FaultKind::BrokerLost | FaultKind::BrokerTimeout);
        assert_eq!(title.contains("may have been stored"), unknown, "{title}");
        assert_eq!(title.contains("was not stored"), !unknown, "{title}");
    }
    let route = built(&FakeBroker::silent(), "to = \"a\"\ntimeout = \"20ms\"").unwrap();
    assert_eq!(kind(publish(&route, "1", &[], "")), FaultKind::BrokerTimeout);
}

#[test]
fn room_is_bounded_for_route_and_broker_and_a_body_for_the_broker() {
    let broker = FakeBroker::new(Ok(()));
    let route = built(&broker, "to = \"a\"\nmax_in_flight = 1").unwrap();
    assert_eq!(kind(publish(&route, "1", &[], "eleven byte")), FaultKind::MessageTooLarge);
    let place = route.window.enter().unwrap();
    let fault = publish(&route, "1", &[], "").expect_err("the route is full");
    assert_eq!((fault.kind, fault.headers.len()), (FaultKind::BrokerOverloaded, 1), "with Retry-After");
    drop(place);
    let mut room = broker.window.enter().unwrap();
    assert!(room.grow(10));
    assert_eq!(kind(publish(&route, "1", &[], "6 byte")), FaultKind::BrokerOverloaded, "the bytes are full");
    assert!(publish(&route, "1", &[], "5byte").is_ok());
    let _more = broker.window.enter().unwrap();
    assert_eq!(kind(publish(&route, "1", &[], "")), FaultKind::BrokerOverloaded, "the broker is full");
}
