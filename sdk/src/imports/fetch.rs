//! Outbound HTTP through an upstream of the gateway, with its balancing, circuit breaker, TLS and tracing. Needs a
//! `fetch` grant that names the upstream.
//!
//! ```no_run
//! use witgate_sdk::fetch;
//!
//! let keys = fetch::get("idp", "/.well-known/jwks.json").with_header("accept", "application/json").send()?;
//! assert_eq!(keys.status, 200);
//! # Ok::<(), fetch::Error>(())
//! ```

use std::time::Duration;

use super::backend;
use crate::contracts::milliseconds;
use crate::request::Header;

pub use crate::bindings::host::witgate::plugin::fetch::{Error, InboundResponse, OutboundRequest};

/// A GET request for a path, which begins with `/`, at a named upstream.
pub fn get(upstream: impl Into<String>, path: impl Into<String>) -> OutboundRequest {
    OutboundRequest::new("GET", upstream, path)
}

/// A POST request for a path, which begins with `/`, at a named upstream.
pub fn post(
    upstream: impl Into<String>,
    path: impl Into<String>,
    body: impl Into<Vec<u8>>,
) -> OutboundRequest {
    OutboundRequest { body: body.into(), ..OutboundRequest::new("POST", upstream, path) }
}

impl OutboundRequest {
    /// A request without headers and body.
    pub fn new(method: impl Into<String>, upstream: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            upstream: upstream.into(),
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
        }
    }

    /// Adds a header. `host` may be set; headers for framing and hop-by-hop headers are written by the gateway.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Time for the whole exchange. In any case the exchange ends with [`Error::Timeout`] 50 ms before the
    /// binding's wall time is used up (or after half of it, if it is below 100 ms), so that the plugin can still
    /// return a result.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(milliseconds(timeout));
        self
    }

    /// Sends the request and waits for the whole response.
    ///
    /// # Errors
    /// The upstream is not granted or cannot be reached, the request is malformed, the time was up, or the
    /// response exceeded the binding's `fetch_limit`. A response with a status such as 500 is not an error.
    pub fn send(&self) -> Result<InboundResponse, Error> {
        backend::fetch::send(self)
    }
}

impl InboundResponse {
    /// A response, for the upstreams of tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// The first value of a header, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(&header.value).ok()
    }
}
