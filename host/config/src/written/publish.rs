//! `routes.publish`: a request becomes a message of a broker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use super::route_action::check_parameters;
use crate::model::{self, Composed, Piece};
use crate::pointer::child;
use crate::scalar::{Duration, HeaderName, Scalar, Text};

/// Publishes the request as a message. The response is 202 with the message's id once the broker has confirmed that it has
/// the message.
///
/// In `to` and `key`, `{name}` stands for a parameter of the route's path, `{header:NAME}` for a header, `{claim:NAME}`
/// for a claim of the caller and `{subject}` for the caller's subject. A request that lacks one of them, or whose value
/// has a character with a meaning for the broker, gets 400.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["broker", "to"]))]
pub(crate) struct Publish {
    /// Name of the broker.
    #[schemars(length(min = 1))]
    broker: String,
    /// Where to: the queue (`memory`), or the exchange (`amqp`; `""` is the default exchange, whose key is the name of a
    /// queue).
    to: String,
    /// The values that `to` may have. Required if a part of `to` comes from the request; any other value gets 400.
    allow: Vec<String>,
    /// The routing key (`amqp`), or the key whose messages consumers may keep in order.
    key: Option<String>,
    /// Headers of the request that the message gets, besides `content-type`, `traceparent`, `tracestate` and `baggage`.
    /// Credentials are sent only if they are named here.
    headers: Vec<Text<HeaderName>>,
    /// Time after which the broker drops the message if nobody has taken it.
    ttl: Option<Text<Duration>>,
    /// Time for the broker's confirm. After it, the message may have been stored.
    timeout: Text<Duration>,
    /// Messages of this route that wait for their confirm at once, over all cores. Further requests get 503.
    #[schemars(range(min = 1, max = 1_000_000))]
    max_in_flight: usize,
}

impl Default for Publish {
    fn default() -> Self {
        Publish {
            broker: String::new(),
            to: String::new(),
            allow: Vec::new(),
            key: None,
            headers: Vec::new(),
            ttl: None,
            timeout: Text::of("5s"),
            max_in_flight: 1000,
        }
    }
}

impl Publish {
    /// Converts it to the model. `at` is its JSON Pointer, `parameters` are those of the route's path.
    pub(crate) fn meant(self, parameters: &[&str], at: &str, scope: &mut Scope) -> model::Publish {
        scope.check_broker(&child(at, "broker"), &self.broker);
        let to = composed(&self.to, parameters, &child(at, "to"), scope);
        let key = self.key.map(|key| composed(&key, parameters, &child(at, "key"), scope));
        if to.depends_on_the_request() && self.allow.is_empty() {
            let hint = "list the values that it may have: allow = [\"orders.eu\", \"orders.us\"]".to_owned();
            scope.report(
                &child(at, "to"),
                "a part of `to` comes from the request, so `allow` is required",
                Some(hint),
            );
        }
        if !to.depends_on_the_request() && !self.allow.is_empty() {
            let message = "`allow` has no effect, because `to` is the same for every request";
            scope.report_key(&child(at, "allow"), message, Some("leave it out".to_owned()));
        }
        let mut headers = Vec::new();
        for (index, header) in self.headers.into_iter().enumerate() {
            let name = header.value.0;
            if FRAMING.contains(&name.as_str()) {
                let at = child(&child(at, "headers"), &index.to_string());
                scope.report(&at, format!("`{name}` belongs to the connection, not to the message"), None);
            }
            headers.push(name);
        }
        model::Publish {
            broker: self.broker,
            to,
            allow: self.allow,
            key,
            headers,
            ttl: self.ttl.map(|ttl| scope.check_positive(at, "ttl", ttl.value.0)),
            timeout: scope.check_positive(at, "timeout", self.timeout.value.0),
            max_in_flight: self.max_in_flight,
        }
    }
}

/// Headers that belong to a connection.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads a text with `{...}` in it.
fn composed(text: &str, parameters: &[&str], at: &str, scope: &mut Scope) -> Composed {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let end = rest[open..].find('}').map(|end| open + end);
        let (true, Some(end)) = (rest.as_bytes()[open] == b'{', end) else {
            scope.report(at, "a brace without its other half", Some("write it as `{name}`".to_owned()));
            break;
        };
        if open > 0 {
            pieces.push(Piece::Literal(rest[..open].to_owned()));
        }
        match &rest[open + 1..end] {
            "subject" if !parameters.contains(&"subject") => pieces.push(Piece::Subject),
            named => match named.split_once(':') {
                Some(("claim", claim)) if !claim.is_empty() => pieces.push(Piece::Claim(claim.to_owned())),
                Some(("header", name)) => match HeaderName::read(name) {
                    Ok(HeaderName(name)) => pieces.push(Piece::Header(name)),
                    Err(why) => scope.report(at, format!("expected {}: {why}", HeaderName::WHAT), None),
                },
                _ => {
                    check_parameters(&[named.to_owned()], parameters, at, scope);
                    pieces.push(Piece::Parameter(named.to_owned()));
                }
            },
        }
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Composed(pieces)
}
