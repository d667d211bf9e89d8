//! Headers and responses as plugins see and write them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::ValuePart;
use crate::fault::FaultKind;

/// A header as a plugin writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Untrusted name.
    pub name: String,
    /// Untrusted value.
    pub value: Bytes,
}

/// An edit of a header section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// Replaces all values.
    Set(Header),
    /// Adds a value.
    Append(Header),
    /// Removes all values.
    Remove(String),
    /// Replaces all values.
    SetComposed(ComposedHeader),
    /// Adds a value.
    AppendComposed(ComposedHeader),
}

/// A header whose value is composed for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposedHeader {
    /// Untrusted name.
    pub name: String,
    /// Untrusted parts of the value.
    pub value: Vec<ValuePart>,
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalResponse {
    /// Untrusted status.
    pub status: u16,
    /// Untrusted headers.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
}

/// Where a response came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseOrigin {
    /// The upstream that responded, or else the one that was asked last or chosen.
    pub upstream: Option<Arc<str>>,
    /// The address of the endpoint.
    pub endpoint: Option<Arc<str>>,
    /// How often the request was sent.
    pub attempts: u32,
    /// From the first byte sent upstream to the response head, of the last attempt.
    pub time: Option<Duration>,
    /// The fault that made the response.
    pub fault: Option<FaultKind>,
}

/// The head of a response as plugins see it.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Where it came from.
    pub origin: ResponseOrigin,
    /// Trailers, only in the last call with a piece of the body.
    pub trailers: Option<HeaderMap>,
    /// Whether the gateway made the response.
    pub local: bool,
}
