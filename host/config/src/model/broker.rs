//! Brokers, consumers and publishing routes, as meant.

use std::time::Duration;

use super::{Backoff, FieldMatch};
use crate::settings::Settings;

/// `[brokers.NAME]`: where messages are published to and consumed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Which kind it is.
    pub kind: String,
    /// What only the kind understands.
    pub settings: Settings,
}

/// A text that is composed for each request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Composed(pub Vec<Piece>);

/// A piece of a [`Composed`] text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Literal(String),
    /// The parameter of the route's path, decoded.
    Parameter(String),
    /// The value of this header, whose name is in lower case.
    Header(String),
    /// This claim of the caller's identity.
    Claim(String),
    /// The subject of the caller's identity.
    Subject,
}

impl Composed {
    /// Whether a request has a part in the text.
    pub fn depends_on_the_request(&self) -> bool {
        self.0.iter().any(|piece| !matches!(piece, Piece::Literal(_)))
    }

    /// The text, if no request has a part in it.
    pub fn fixed(&self) -> Option<String> {
        let literals = self.0.iter().map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            _ => None,
        });
        literals.collect()
    }
}

/// `routes.publish`: a request becomes a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// Name of the broker.
    pub broker: String,
    /// The exchange or queue.
    pub to: Composed,
    /// The values that `to` may have, if a request has a part in it.
    pub allow: Vec<String>,
    /// The key.
    pub key: Option<Composed>,
    /// The request's headers that the message gets, in lower case.
    pub headers: Vec<String>,
    /// The time after which the broker drops the message.
    pub ttl: Option<Duration>,
    /// Time for the broker's confirm.
    pub timeout: Duration,
    /// The most messages of this route that are being published.
    pub max_in_flight: usize,
}

/// `[consumers.NAME]`: messages become requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// Name of the broker.
    pub broker: String,
    /// The queue.
    pub from: String,
    /// What only the kind of the broker understands.
    pub source: Settings,
    /// Name of the listener whose routes the requests take.
    pub listener: String,
    /// The method.
    pub method: String,
    /// The host, with a port if it is not the usual one.
    pub host: String,
    /// The path and the query.
    pub path: String,
    /// The subject of the identity of the requests.
    pub identity: Option<String>,
    /// The header of messages that becomes the bearer token of `Authorization`, in lower case.
    pub token: Option<String>,
    /// The headers of messages that become headers of requests, in lower case; `None`: all but credentials.
    pub headers: Option<Vec<String>>,
    /// The most requests in progress.
    pub concurrency: usize,
    /// The most messages that are fetched and not settled.
    pub prefetch: usize,
    /// Which messages wait for each other.
    pub ordering: Ordering,
    /// How often a message is tried.
    pub attempts: u32,
    /// The waits between the tries.
    pub backoff: Backoff,
    /// Time for one try.
    pub timeout: Duration,
    /// Further statuses after which a message is tried again.
    pub retry_statuses: Vec<u16>,
    /// Where messages go that cannot be delivered; `None`: they are discarded.
    pub dead_letter: Option<DeadLetter>,
    /// Statuses of plugins that discard a message.
    pub drop: Vec<u16>,
    /// The headers that a message must have; others are discarded.
    pub filter: Vec<FieldMatch>,
}

/// `consumers.ordering`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ordering {
    /// No message waits for another.
    #[default]
    None,
    /// Messages with the same key are tried one after the other.
    Key,
}

/// `consumers.dead_letter`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Name of the broker.
    pub broker: String,
    /// The exchange or queue.
    pub to: String,
    /// The key.
    pub key: Option<String>,
}
