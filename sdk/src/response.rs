//! The responses that a plugin makes, and those that it reads.

use std::cell::OnceCell;

use crate::bindings::host::witgate::plugin::types;
use crate::checked::{self, Direction};
use crate::headers::{DeclaredHeaders, ReadHeaders, Values};
use crate::request::Header;

pub use types::Response;

impl Response {
    /// An empty response. The status must be from 200 to 599.
    ///
    /// In tests, what the gateway would refuse of a response panics where it is built.
    #[must_use]
    #[track_caller]
    pub fn new(status: u16) -> Self {
        checked::response(status, 0);
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A problem document (RFC 9457), the form in which the gateway itself reports errors.
    #[must_use]
    pub fn problem(status: u16, title: &str) -> Self {
        let title = serde_json::Value::from(title);
        Self::new(status)
            .with_header("content-type", "application/problem+json")
            .with_body(format!("{{\"status\":{status},\"title\":{title}}}"))
    }

    /// 401 with a challenge (`WWW-Authenticate`, RFC 9110 section 11.6.1).
    #[must_use]
    pub fn unauthorized(challenge: &str) -> Self {
        Self::problem(401, "Unauthorized").with_header("www-authenticate", challenge)
    }

    /// Adds a header; the case of its name does not matter. Headers for framing and hop-by-hop headers are refused,
    /// because the gateway writes them.
    #[must_use]
    #[track_caller]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let header = Header::new(name, value);
        checked::header(&header.name, &header.value, Direction::Response);
        self.headers.push(header);
        self
    }

    /// Replaces the body.
    #[must_use]
    #[track_caller]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        checked::response(self.status, self.body.len());
        self
    }

    /// The first value of a header, if it is UTF-8: for tests.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(&header.value).ok()
    }
}

/// The upstream's response, or one made by the gateway, as a transformation reads it.
pub struct ResponseView<'a> {
    source: ViewSource<'a>,
    headers: DeclaredHeaders<'a>,
    read: ReadHeaders,
    status: OnceCell<u16>,
}

/// Implements the reading of parts that were not passed with the call.
pub(crate) enum ViewSource<'a> {
    Gateway(&'a types::ResponseView),
    #[cfg(any(not(target_family = "wasm"), feature = "test"))]
    Test(Box<crate::test::ResponseParts>),
}

/// As for requests: a component imports only the functions that it uses.
macro_rules! ask {
    ($response:expr, $method:ident($($argument:expr),*)) => {
        match &$response.source {
            ViewSource::Gateway(gateway) => gateway.$method($($argument),*),
            #[cfg(any(not(target_family = "wasm"), feature = "test"))]
            ViewSource::Test(parts) => parts.$method($($argument),*),
        }
    };
}

impl<'a> ResponseView<'a> {
    pub(crate) fn new(
        status: u16,
        values: Vec<types::DeclaredHeader>,
        declared: &'a [String],
        source: ViewSource<'a>,
    ) -> Self {
        let headers = DeclaredHeaders { names: declared, values };
        Self { source, headers, read: ReadHeaders::default(), status: OnceCell::from(status) }
    }

    /// For the calls with a body, which pass no head.
    pub(crate) fn without_head(source: ViewSource<'a>) -> Self {
        Self {
            source,
            headers: DeclaredHeaders::default(),
            read: ReadHeaders::default(),
            status: OnceCell::new(),
        }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        *self.status.get_or_init(|| ask!(self, status()))
    }

    /// The first value of a header; the case of `name` does not matter. `None` if it is absent or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a header, in order of reception.
    pub fn values(&self, name: &str) -> Values<'_> {
        self.headers.values(name).unwrap_or_else(|| self.read.values(name, || ask!(self, header(name))))
    }

    /// Every header, in order of reception. This copies all of them, so prefer [`values`](Self::values).
    pub fn headers(&self) -> Vec<Header> {
        ask!(self, headers())
    }

    /// Whether the gateway itself made this response: a fault, a redirect, a fixed response, or the answer of a plugin. To forget this
    /// question is the commonest mistake of [`on_response`](crate::Transformation::on_response).
    pub fn is_local(&self) -> bool {
        ask!(self, is_local())
    }

    /// The trailers; empty before the last call with the body.
    pub fn trailers(&self) -> Vec<Header> {
        ask!(self, trailers())
    }
}
