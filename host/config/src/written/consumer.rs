//! `[consumers.NAME]`: messages of a broker become requests.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::condition::{Condition, header_conditions};
use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, HeaderName, Method, Text};

/// Each message becomes a request, which takes the way of every request: the route of its method, host and path, plugins,
/// filters, limits and the upstream. It is acknowledged when the destination of the route has answered with a 2xx.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["broker", "from", "path", "dead_letter"]))]
pub(crate) struct Consumer {
    /// Name of the broker.
    #[schemars(length(min = 1))]
    broker: String,
    /// The queue.
    #[schemars(length(min = 1))]
    from: String,
    /// Settings of the source that only the kind of the broker understands; see the page on messages.
    source: Map<String, Value>,
    /// Name of the listener whose routes the requests take. Without it, the first one.
    listener: Option<String>,
    /// The method of the requests.
    method: Text<Method>,
    /// The host of the requests. Without it, the name of the consumer.
    host: Option<String>,
    /// The path of the requests, with a query if one is wanted.
    path: String,
    /// The subject of the identity that the requests have. With it, the authentication plugins of the route are not called,
    /// except for messages with a `token`.
    #[schemars(length(min = 1))]
    identity: Option<String>,
    /// The header of messages that has a token of the producer. It becomes the bearer token of `Authorization`, and the
    /// authentication plugins decide.
    token: Option<Text<HeaderName>>,
    /// The headers of messages that become headers of the requests. Without the list, all but credentials. Headers of
    /// identity and forwarding are removed in any case.
    headers: Option<Vec<Text<HeaderName>>>,
    /// Requests in progress at once, over all cores.
    #[schemars(range(min = 1, max = 100_000))]
    concurrency: usize,
    /// Messages that are fetched and not acknowledged, over all cores: those in progress and those that wait for their next
    /// try.
    #[schemars(range(min = 1, max = 1_000_000))]
    prefetch: usize,
    /// Which messages wait for each other: none (`none`), or those with the same key (`key`), which are then tried one after
    /// the other.
    ordering: Ordering,
    /// How often a message is tried before it goes to the dead letter. 1 means once.
    #[schemars(range(min = 1, max = 1000))]
    attempts: u32,
    /// The wait before the next try: random, up to a bound that doubles with every try. A longer `Retry-After` is respected up to
    /// `max`.
    backoff: Backoff,
    /// Time for one try, until the end of the response.
    timeout: Text<Duration>,
    /// Statuses after which a message is tried again, besides 408, 425, 429 and 500 to 599.
    #[schemars(inner(range(min = 400, max = 499)))]
    retry_statuses: Vec<u16>,
    /// Where a message goes that was refused or was tried too often: a table, or `"discard"`.
    dead_letter: DeadLetter,
    /// Statuses with which a plugin discards a message: it is acknowledged, counted and logged, and is no error.
    #[schemars(inner(range(min = 200, max = 599)))]
    drop: Vec<u16>,
    /// Conditions on the headers of messages, as for routes. A message that does not meet them is discarded.
    filter: BTreeMap<String, Condition>,
}

/// A random wait, from half of a bound to the whole of it. The bound doubles with every try.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ConsumerBackoff")]
struct Backoff {
    /// The bound of the first wait.
    base: Text<Duration>,
    /// The longest wait, also for a `Retry-After`.
    max: Text<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Text::of("1s"), max: Text::of("1m") }
    }
}

/// Which messages wait for each other.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Ordering {
    #[default]
    None,
    Key,
}

/// Where a message goes that cannot be delivered.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum DeadLetter {
    Discard(Discard),
    Table(DeadLetterTable),
}

/// It is acknowledged, counted and logged.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Discard {
    Discard,
}

/// It is published with headers that say why; the message is acknowledged when that is confirmed.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["to"]))]
struct DeadLetterTable {
    /// Name of the broker. Without it, that of the consumer.
    broker: Option<String>,
    /// The queue (`memory`), or the exchange (`amqp`, `""` is the default exchange).
    to: String,
    /// The key. For `amqp`, the routing key.
    key: Option<String>,
}

impl Default for Consumer {
    fn default() -> Self {
        Consumer {
            broker: String::new(),
            from: String::new(),
            source: Map::new(),
            listener: None,
            method: Text::of("POST"),
            host: None,
            path: String::new(),
            identity: None,
            token: None,
            headers: None,
            concurrency: 16,
            prefetch: 64,
            ordering: Ordering::None,
            attempts: 8,
            backoff: Backoff::default(),
            timeout: Text::of("1m"),
            retry_statuses: Vec::new(),
            dead_letter: DeadLetter::Discard(Discard::Discard),
            drop: Vec::new(),
            filter: BTreeMap::new(),
        }
    }
}

impl Backoff {
    fn meant(&self, at: &str, scope: &mut Scope) -> model::Backoff {
        let (base, max) = (self.base.value.0, self.max.value.0);
        if base > max {
            scope.report(at, "`base` is longer than `max`", Some("set both".to_owned()));
        }
        model::Backoff { base, max }
    }
}

impl Section for Consumer {
    type Meant = model::Consumer;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Consumer> {
        scope.check_broker(&child(at, "broker"), &self.broker);
        let listener = self.listener(at, scope);
        if self.prefetch < self.concurrency {
            let message = "`prefetch` is smaller than `concurrency`, which could never be reached";
            let at = if scope.is_written(&child(at, "prefetch")) {
                child(at, "prefetch")
            } else {
                child(at, "concurrency")
            };
            scope.report(&at, message, Some(format!("set `prefetch` to {} or more", self.concurrency)));
        }
        let name = crate::pointer::segments(at).last().map(|name| name.to_string()).unwrap_or_default();
        let host = self.host.unwrap_or(name);
        if !is_target(&self.path) {
            let hint = "e.g. path = \"/hooks/billing\"".to_owned();
            scope.report(
                &child(at, "path"),
                "expected a path that begins with a slash, percent-encoded",
                Some(hint),
            );
        }
        if !is_host(&host) {
            let hint = "e.g. host = \"billing.internal\"".to_owned();
            scope.report(&child(at, "host"), "expected a host name, with a port if need be", Some(hint));
        }
        let dead_letter = match self.dead_letter {
            DeadLetter::Discard(Discard::Discard) => None,
            DeadLetter::Table(table) => {
                let at = child(at, "dead_letter");
                if let Some(broker) = &table.broker {
                    scope.check_broker(&child(&at, "broker"), broker);
                }
                let broker = table.broker.unwrap_or_else(|| self.broker.clone());
                let queue = if table.to.is_empty() { table.key.as_deref() } else { Some(table.to.as_str()) };
                if broker == self.broker && queue == Some(self.from.as_str()) {
                    let hint = "name another queue, from which nobody feeds this one".to_owned();
                    scope.report(&at, "the dead letter leads back to this consumer", Some(hint));
                }
                Some(model::DeadLetter { broker, to: table.to, key: table.key })
            }
        };
        Some(model::Consumer {
            broker: self.broker,
            from: self.from,
            source: scope.document.part(&child(at, "source"), &[]),
            listener,
            method: self.method.value.0,
            host,
            path: self.path,
            identity: self.identity,
            token: self.token.map(|token| token.value.0),
            headers: self.headers.map(|names| names.into_iter().map(|name| name.value.0).collect()),
            concurrency: self.concurrency,
            prefetch: self.prefetch,
            ordering: match self.ordering {
                Ordering::None => model::Ordering::None,
                Ordering::Key => model::Ordering::Key,
            },
            attempts: self.attempts,
            backoff: self.backoff.meant(&child(at, "backoff"), scope),
            timeout: scope.check_positive(at, "timeout", self.timeout.value.0),
            retry_statuses: self.retry_statuses,
            dead_letter,
            drop: self.drop,
            filter: header_conditions(self.filter, &child(at, "filter"), scope),
        })
    }
}

/// Whether this is a path, with a query or without one.
fn is_target(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte))
}

/// Whether this can be the authority of a URL.
fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    !host.is_empty() && host.bytes().all(allowed)
}

impl Consumer {
    /// The name of its listener.
    fn listener(&self, at: &str, scope: &mut Scope) -> String {
        let names = super::listener::names(scope);
        let Some(name) = &self.listener else {
            let default = super::listener::default_name();
            return names.first().cloned().unwrap_or(default);
        };
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let otherwise = format!("give one of the listeners this name: name = {name:?}");
        scope.check_name(&child(at, "listener"), "listener", name, &known, otherwise);
        name.clone()
    }
}
