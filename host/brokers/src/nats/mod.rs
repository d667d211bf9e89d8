//! NATS with JetStream, whose streams keep messages.
//!
//! Choose it where NATS is there already, and for retries that wait at the broker. A publish is confirmed by the stream that keeps
//! the subject (PubAck). Streams are used as they are; a consumer is durable, and is created if it does not exist.
//!
//! Messages of NATS without a stream are not offered: nothing would confirm or keep them.

mod consume;
mod message;

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishErrorKind};
use async_nats::jetstream::{Context, message::PublishMessage};
use async_nats::{Client, ConnectOptions, ServerAddr};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{self, Text};
use witgate_config::{Problems, Settings};
use witgate_exchange::contracts::broker::{
    Broker, BrokerKind, BrokerStatus, Capabilities, Consuming, MessageSink, Outgoing, PublishFailure,
    Publishing, Subscription, Window,
};

use crate::link::{Feed, Link, Nothing, Protocol, Session, Shared};
use consume::SourceSettings;

/// The kind `nats`.
pub const KIND: BrokerKind = BrokerKind {
    name: "nats",
    summary: "NATS with JetStream, for streams and for retries that wait at the broker",
    capabilities: Capabilities {
        durable: true,
        routed: true,
        expire: false,
        order: true,
        attempts: true,
        delayed_retry: true,
        declare: false,
    },
    build,
};

/// The time after which the library itself gives a confirm up. Whoever publishes has a shorter one.
const LONGEST_CONFIRM: Duration = Duration::from_secs(600);

/// Interval at which the state of the connection is checked.
const CHECK: Duration = Duration::from_millis(100);

/// The most bytes of a subject.
const LONGEST_SUBJECT: usize = 255;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSettings {
    /// The addresses: `nats://host:4222`, `nats://user:password@host:4222` or `tls://`. Those of a cluster are tried in turn.
    #[schemars(length(min = 1))]
    urls: Vec<String>,
    /// A token, in place of user and password.
    token: Option<String>,
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
    /// The most bytes of a body. The default is that of the server (`max_payload`), less some room for headers.
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
    Text::of("1000KiB")
}

fn build(settings: &Settings, serving: bool) -> Result<Arc<dyn Broker>, Problems> {
    let read: NewSettings = settings.parse()?;
    let mut servers = Vec::new();
    for (index, url) in read.urls.iter().enumerate() {
        let server = url.parse::<ServerAddr>().map_err(|_| {
            let hint = "write it as nats://user:password@host:4222".to_owned();
            vec![settings.problem(&format!("/urls/{index}"), "this is not an address of NATS", Some(hint))]
        })?;
        servers.push(server);
    }
    let window = Window::new(read.max_in_flight, read.max_in_flight_bytes.value.in_memory());
    let largest = read.max_message.value.in_memory();
    let link = if serving {
        let protocol = Nats { servers, token: read.token, max_in_flight: read.max_in_flight };
        let link = Link::start("nats", protocol, Arc::clone(&window), read.connect_timeout.value.0);
        Some(link.map_err(|error| vec![settings.problem("", format!("no thread for it: {error}"), None)])?)
    } else {
        None
    };
    Ok(Arc::new(NatsBroker { link, window, largest }))
}

struct NatsBroker {
    /// `None` if the settings are only checked.
    link: Option<Link>,
    window: Arc<Window>,
    largest: usize,
}

impl Broker for NatsBroker {
    fn capabilities(&self) -> &'static Capabilities {
        &KIND.capabilities
    }

    fn window(&self) -> &Arc<Window> {
        &self.window
    }

    fn largest(&self) -> usize {
        self.largest
    }

    /// Dots separate the tokens of a subject, and `*` and `>` are wildcards.
    fn may_fill(&self, part: &str) -> bool {
        let refused =
            |letter: char| letter.is_control() || letter.is_whitespace() || matches!(letter, '.' | '*' | '>');
        !part.is_empty() && !part.chars().any(refused)
    }

    fn check_target(&self, to: &str, key: Option<&str>) -> Result<(), String> {
        if to.is_empty() || to.len() > LONGEST_SUBJECT || to.split('.').any(|token| !self.may_fill(token)) {
            return Err("a subject has 1 to 255 bytes and no empty token, wildcard or white space".to_owned());
        }
        if to.starts_with('$') || to.starts_with("_INBOX") {
            return Err("subjects that begin with `$` or `_INBOX` are the broker's own".to_owned());
        }
        match key {
            Some(key) if key.chars().any(char::is_control) => {
                Err("a key has no control characters".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_source(&self, from: &str, settings: &Settings) -> Result<(), Problems> {
        settings.parse::<SourceSettings>()?;
        if self.may_fill(from) && !from.contains(['/', '\\']) {
            return Ok(());
        }
        Err(vec![settings.problem(
            "",
            "`from` is the name of a stream, without dots, wildcards and white space",
            None,
        )])
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

struct Nats {
    servers: Vec<ServerAddr>,
    token: Option<String>,
    max_in_flight: usize,
}

impl Protocol for Nats {
    type Session = NatsSession;

    async fn connect(&self) -> Result<NatsSession, String> {
        // The link connects again, so that it knows what became of each connection.
        let mut options =
            ConnectOptions::new().name("witgate").max_reconnects(1).request_timeout(Some(LONGEST_CONFIRM));
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        let client = options.connect(self.servers.as_slice()).await.map_err(|error| error.to_string())?;
        let builder = ContextBuilder::new().ack_timeout(LONGEST_CONFIRM).max_ack_inflight(self.max_in_flight);
        let context = builder.build(client.clone());
        Ok(NatsSession { client, context })
    }
}

/// One connection.
pub struct NatsSession {
    client: Client,
    context: Context,
}

impl Session for NatsSession {
    async fn publish(&self, message: Outgoing, _shared: &Shared) -> Result<(), PublishFailure> {
        let headers = message::headers(&message).map_err(PublishFailure::Refused)?;
        let published =
            PublishMessage::build().payload(message.body.clone()).headers(headers).message_id(&message.id);
        let confirm = match self.context.send_publish(message.to.clone(), published).await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        confirm.map(drop).map_err(|error| {
            let why = error.to_string();
            match error.kind() {
                PublishErrorKind::StreamNotFound => PublishFailure::Unroutable(why),
                PublishErrorKind::MaxAckPending => PublishFailure::Full(why),
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => PublishFailure::Lost(why),
                // The stream has answered, or the library has not sent it.
                _ => PublishFailure::Refused(why),
            }
        })
    }

    async fn consume(&self, feed: &Feed) -> Result<(), String> {
        consume::run(&self.context, feed).await
    }

    async fn lost(&self) -> String {
        while self.client.connection_state() == State::Connected {
            tokio::time::sleep(CHECK).await;
        }
        "the connection was lost".to_owned()
    }

    async fn close(&self) {
        // Whatever fails here, the process or the link ends.
        let _ = self.client.flush().await;
        let _ = self.client.drain().await;
    }
}
