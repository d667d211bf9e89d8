//! The contract `routing`: where a request is sent.

use std::time::Duration;

use super::milliseconds;
use crate::checked::{self, Direction};
use crate::plugin::{Interest, Plugin};
use crate::request::{Header, Request};

pub use crate::bindings::routing::exports::witgate::plugin::routing::Destination;

/// Chooses where a request is sent. It cannot open connections or read the body.
pub trait Routing: Plugin {
    /// The headers that the plugin reads.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// Chooses for one request; `None` leaves the destination of the route unchanged.
    fn route(&self, request: &Request) -> Option<Destination>;
}

impl Destination {
    /// The destination of the route, as a starting point for changes.
    #[must_use]
    pub fn unchanged() -> Self {
        Self { upstream: None, path: None, hash_key: None, timeout: None, response_headers: Vec::new() }
    }

    /// A named upstream, which the binding's `route_to` grant must list.
    pub fn to(upstream: impl Into<String>) -> Self {
        Self { upstream: Some(upstream.into()), ..Self::unchanged() }
    }

    /// The path, with query if any, that is sent to the upstream.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The key by which hashing balancers choose the endpoint.
    #[must_use]
    pub fn with_hash_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.hash_key = Some(key.into());
        self
    }

    /// Time for the whole request; it can only shorten the timeout of the route.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(milliseconds(timeout));
        self
    }

    /// Adds a header to the response, e.g. `Set-Cookie` for a sticky choice.
    #[must_use]
    #[track_caller]
    pub fn with_response_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let header = Header::new(name, value);
        checked::header(&header.name, &header.value, Direction::Response);
        self.response_headers.push(header);
        self
    }
}
