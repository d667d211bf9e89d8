//! RabbitMQ, or another broker that speaks AMQP 0-9-1.
//!
//! Choose it for work that must not be lost. A publish is confirmed by the broker (publisher confirms) and must be routed
//! (`mandatory`): a 2xx means that a queue has the message. Queues and exchanges are used as they are; a consumer with
//! `declare` creates its queue.
//!
//! With `amqps`, TLS is this process's own (rustls), and the certificate is checked against the certificates of the system.

mod consume;
mod message;
mod publish;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, Event};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{self, Text};
use witgate_config::{Problems, Settings};
use witgate_exchange::contracts::broker::{
    Broker, BrokerKind, BrokerStatus, BuildResult, Capabilities, Consuming, MessageSink, Outgoing,
    PublishFailure, Publishing, Subscription, Window,
};

use crate::link::{Feed, Link, Nothing, Protocol, Session, Shared};
use consume::SourceSettings;
use publish::Channels;

/// The kind `amqp`.
pub const KIND: BrokerKind = BrokerKind {
    name: "amqp",
    summary: "RabbitMQ, for work that must not be lost",
    capabilities: Capabilities {
        durable: true,
        routed: true,
        expire: true,
        order: true,
        attempts: true,
        declare: true,
    },
    build,
};

/// The most bytes of a name in AMQP.
const LONGEST_NAME: usize = 255;

/// Interval at which the state of the connection is checked. Failures that the library reports are noticed at once.
const CHECK: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSettings {
    /// The address: `amqp://user:password@host:5672/vhost` or `amqps://`. Several nodes of a cluster are tried in turn.
    #[schemars(length(min = 1))]
    urls: Vec<String>,
    /// Whether connections without TLS to a broker that is not on a loopback address are allowed. Messages and the password
    /// can be read on their way then.
    #[serde(default)]
    allow_plaintext: bool,
    /// Time for one try to connect.
    #[serde(default = "connect_timeout")]
    connect_timeout: Text<scalar::Duration>,
    /// The most messages that wait for their confirm, over all routes.
    #[serde(default = "max_in_flight")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_in_flight: usize,
    /// The most bytes of the bodies of these messages.
    #[serde(default = "max_in_flight_bytes")]
    max_in_flight_bytes: Text<scalar::Size>,
    /// The most bytes of a body. The default is that of RabbitMQ (`max_message_size`).
    #[serde(default = "max_message")]
    max_message: Text<scalar::Size>,
}

fn connect_timeout() -> Text<scalar::Duration> {
    Text::of("10s")
}

fn max_in_flight() -> usize {
    2000
}

fn max_in_flight_bytes() -> Text<scalar::Size> {
    Text::of("64MiB")
}

fn max_message() -> Text<scalar::Size> {
    Text::of("16MiB")
}

fn build(settings: &Settings, serving: bool) -> BuildResult {
    let read: NewSettings = settings.parse()?;
    let mut uris = Vec::new();
    for (index, url) in read.urls.iter().enumerate() {
        let uri = url.parse::<AMQPUri>().map_err(|_| {
            let hint = "write it as amqp://user:password@host:5672/vhost".to_owned();
            vec![settings.problem(&format!("/urls/{index}"), "this is not an AMQP address", Some(hint))]
        })?;
        if uri.scheme == AMQPScheme::AMQP && !read.allow_plaintext && !is_loopback(&uri.authority.host) {
            let message =
                format!("messages and the password would go to `{}` in plain text", uri.authority.host);
            let hint =
                "use `amqps://`, or set `allow_plaintext = true` if nobody else can reach that network"
                    .to_owned();
            return Err(vec![settings.problem(&format!("/urls/{index}"), message, Some(hint))]);
        }
        uris.push(uri);
    }
    let window = Window::new(read.max_in_flight, read.max_in_flight_bytes.value.in_memory());
    let largest = read.max_message.value.in_memory();
    let link = if serving {
        let protocol = Amqp { uris, next: std::cell::Cell::new(0) };
        let link = Link::start("amqp", protocol, Arc::clone(&window), read.connect_timeout.value.0);
        Some(link.map_err(|error| vec![settings.problem("", format!("no thread for it: {error}"), None)])?)
    } else {
        None
    };
    Ok(Arc::new(AmqpBroker { link, window, largest }))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

struct AmqpBroker {
    /// `None` if the settings are only checked.
    link: Option<Link>,
    window: Arc<Window>,
    largest: usize,
}

impl Broker for AmqpBroker {
    fn capabilities(&self) -> &'static Capabilities {
        &KIND.capabilities
    }

    fn window(&self) -> &Arc<Window> {
        &self.window
    }

    fn largest(&self) -> usize {
        self.largest
    }

    /// Dots separate the words of a routing key, and `*` and `#` are the wildcards of bindings.
    fn may_fill(&self, part: &str) -> bool {
        !part.is_empty()
            && !part.chars().any(|letter| letter.is_control() || matches!(letter, '.' | '*' | '#'))
    }

    /// The keys of the default exchange are the names of queues.
    fn key_is_the_queue(&self, to: &str) -> bool {
        to.is_empty()
    }

    fn check_target(&self, to: &str, key: Option<&str>) -> Result<(), String> {
        if to.is_empty() && key.is_none_or(str::is_empty) {
            return Err("the default exchange needs a key, which is the name of a queue".to_owned());
        }
        if to.len() > LONGEST_NAME || key.is_some_and(|key| key.len() > LONGEST_NAME) {
            return Err(format!("names and keys have at most {LONGEST_NAME} bytes"));
        }
        if to.is_empty() && key.is_some_and(|key| key.starts_with("amq.")) {
            return Err("queues whose names begin with `amq.` are the broker's own".to_owned());
        }
        Ok(())
    }

    fn check_source(&self, from: &str, settings: &Settings) -> Result<(), Problems> {
        settings.parse::<SourceSettings>()?.check(settings)?;
        match from.len() {
            1..=LONGEST_NAME => Ok(()),
            _ => Err(vec![settings.problem("", format!("`from` has 1 to {LONGEST_NAME} bytes"), None)]),
        }
    }

    fn publish(&self, message: Outgoing) -> Publishing {
        match &self.link {
            Some(link) => link.publish(message),
            None => Box::pin(std::future::ready(Err(PublishFailure::Unreachable(
                "it only is checked".to_owned(),
            )))),
        }
    }

    fn consume(&self, subscription: Subscription, sink: Arc<dyn MessageSink>) -> Box<dyn Consuming> {
        match &self.link {
            Some(link) => link.consume(subscription, sink),
            None => Box::new(Nothing),
        }
    }

    fn close(&self, within: Duration) {
        if let Some(link) = &self.link {
            link.close(within);
        }
    }

    fn status(&self) -> BrokerStatus {
        self.link.as_ref().map(Link::status).unwrap_or_default()
    }
}

struct Amqp {
    uris: Vec<AMQPUri>,
    /// The one that is tried next.
    next: std::cell::Cell<usize>,
}

impl Protocol for Amqp {
    type Session = AmqpSession;

    async fn connect(&self) -> Result<AmqpSession, String> {
        let index = self.next.get();
        self.next.set((index + 1) % self.uris.len());
        let uri = self.uris[index].clone();
        let properties = ConnectionProperties::default().with_connection_name("witgate".into());
        let runtime = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
        let connecting =
            Connection::connect_uri_with_config(uri, properties, OwnedTLSConfig::default(), runtime);
        let connection = connecting.await.map_err(|error| error.to_string())?;
        // The connection is used for as long as the endpoint works, so the same one is tried first next time.
        self.next.set(index);
        Ok(AmqpSession { connection, channels: Channels::default() })
    }
}

/// One connection.
pub struct AmqpSession {
    connection: Connection,
    channels: Channels,
}

impl Session for AmqpSession {
    async fn publish(&self, message: Outgoing, shared: &Shared) -> Result<(), PublishFailure> {
        let queue = message.to.is_empty().then(|| message.key.clone()).flatten();
        self.channels.publish(&self.connection, message).await?;
        if let Some(queue) = queue
            && let Some(warning) = self.channels.transient(&self.connection, &queue).await
        {
            shared.note(warning);
        }
        Ok(())
    }

    async fn consume(&self, feed: &Feed) -> Result<(), String> {
        consume::run(&self.connection, feed).await
    }

    async fn lost(&self) -> String {
        let mut events = std::pin::pin!(self.connection.events_listener());
        let mut error = None;
        while self.connection.status().connected() {
            match tokio::time::timeout(CHECK, events.next()).await {
                Ok(Some(Event::Error(why))) => error = Some(why.to_string()),
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => break,
            }
        }
        error.unwrap_or_else(|| "the connection was lost".to_owned())
    }

    async fn close(&self) {
        // Whatever fails here, the process or the link ends.
        let _ = self.connection.close(200, "closing".into()).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn broker() -> Arc<dyn Broker> {
        let settings = json!({ "urls": ["amqp://localhost"] });
        let settings = Settings::unwritten("brokers.b", settings.as_object().cloned().expect("a table"));
        build(&settings, false).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn names_with_a_meaning_are_refused() {
        let broker = broker();
        for part in ["", "a.b", "*", "#", "a#", "a\n"] {
            assert!(!broker.may_fill(part), "{part:?}");
        }
        assert!(broker.may_fill("a-b_c/ü"));
        let long = "a".repeat(256);
        for (to, key) in [
            ("", None),
            ("", Some("")),
            ("", Some("amq.gen")),
            (long.as_str(), None),
            ("e", Some(long.as_str())),
        ] {
            assert!(broker.check_target(to, key).is_err(), "{to} {key:?}");
        }
        assert!(
            broker.check_target("amq.topic", Some("a.b")).is_ok()
                && broker.check_target("", Some("q")).is_ok()
        );
    }

    #[test]
    fn arguments_of_a_queue_are_texts_numbers_and_flags() {
        let broker = broker();
        let check = |arguments: serde_json::Value| {
            let source = json!({ "declare": { "arguments": arguments } });
            broker.check_source(
                "q",
                &Settings::unwritten("source", source.as_object().cloned().expect("a table")),
            )
        };
        assert!(
            check(json!({ "x-queue-type": "quorum", "x-max-length": 5, "x-single-active-consumer": true }))
                .is_ok()
        );
        for wrong in [json!({ "a": 1.5 }), json!({ "a": ["b"] }), json!({ "a": { "b": 1 } })] {
            assert!(check(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(broker.check_source("", &Settings::unwritten("source", serde_json::Map::new())).is_err());
    }

    #[test]
    fn an_address_that_is_none_is_told_with_its_place() {
        let told = |settings: serde_json::Value| {
            let settings = Settings::unwritten("brokers.b", settings.as_object().cloned().expect("a table"));
            let problems = build(&settings, false).err().unwrap_or_default();
            let told = problems.first().map(|problem| format!("{}: {}", problem.key, problem.message));
            told.unwrap_or_default()
        };
        let scheme = told(json!({ "urls": ["amqp://localhost", "http://localhost"] }));
        assert!(scheme.contains("urls[1]") && scheme.contains("not an AMQP address"), "{scheme}");
        let plain = told(json!({ "urls": ["amqp://user:secret@rabbit.internal"] }));
        assert!(plain.contains("rabbit.internal") && plain.contains("plain text"), "{plain}");
        assert!(!plain.contains("secret"), "{plain}");
        for good in ["amqps://rabbit.internal", "amqp://127.0.0.1", "amqp://[::1]:5672/%2f"] {
            assert_eq!(told(json!({ "urls": [good] })), "", "{good}");
        }
        assert_eq!(told(json!({ "urls": ["amqp://rabbit.internal"], "allow_plaintext": true })), "");
    }
}
