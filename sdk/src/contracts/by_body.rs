//! The decisions on a body: authentication, refusal and routing by body.

use crate::contracts::authentication::Decision;
use crate::contracts::routing::Destination;
use crate::plugin::{Interest, Plugin};
use crate::request::Request;
use crate::response::Response;

pub use crate::bindings::request_body::{Content as Body, Reading};
use crate::bindings::request_body::{Extent, Form};

/// Decides who is calling by the body of the request, e.g. by a signature over its bytes. Runs after
/// [`Authentication`](crate::Authentication), and only if the caller is not known yet (or the route says
/// `auth = "all"`).
///
/// It is part of version 0.2.0 of the contracts, which is a draft, see [`Gate`](crate::Gate).
pub trait AuthenticationByBody: Plugin {
    /// The headers that the plugin reads.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// What it reads of the body.
    fn reads(&self) -> Reading;

    /// Decides about one request. The decision is never remembered, whatever it says.
    fn authenticate_by_body(&self, body: &Body, request: &Request) -> Decision;
}

/// Refuses requests by their bodies: schemas, limits on queries, forbidden content. Runs after rate limiting.
///
/// It is part of version 0.2.0 of the contracts, which is a draft, see [`Gate`](crate::Gate).
pub trait RefusalByBody: Plugin {
    /// The headers that the plugin reads.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// What it reads of the body.
    fn reads(&self) -> Reading;

    /// Decides about one request: `None` lets it go on, a response is sent instead.
    fn refuse_by_body(&self, body: &Body, request: &Request) -> Option<Response>;
}

/// Chooses by the body where a request is sent. Runs after [`Routing`](crate::Routing), whose choice it may change.
///
/// It is part of version 0.2.0 of the contracts, which is a draft, see [`Gate`](crate::Gate).
pub trait RoutingByBody: Plugin {
    /// The headers that the plugin reads.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// What it reads of the body.
    fn reads(&self) -> Reading;

    /// Chooses for one request; `None` leaves the choice that was made so far unchanged.
    fn route_by_body(&self, body: &Body, request: &Request) -> Option<Destination>;
}

impl Reading {
    /// All of the body, as it was received, at most this many bytes and at most the `body_limit` of the binding. A
    /// request with a longer body is answered with 413.
    #[must_use]
    pub fn whole(bytes: u32) -> Self {
        Self { form: Form::Raw, extent: Extent::Whole(bytes) }
    }

    /// The first bytes of the body, as they were received, at most this many. They may not be more than the
    /// `body_limit` of the binding.
    #[must_use]
    pub fn peek(bytes: u32) -> Self {
        Self { form: Form::Raw, extent: Extent::Peek(bytes) }
    }

    /// Reads the content, with its coding (gzip, br, zstd) undone. A request in any other coding is answered with 415.
    #[must_use]
    pub fn decoded(self) -> Self {
        Self { form: Form::Decoded, ..self }
    }
}

impl Body {
    /// A whole body, for tests. A request without a body has one of length 0.
    ///
    /// ```
    /// let body = witgate_sdk::Body::whole("{}");
    /// assert!(body.complete && body.bytes == b"{}");
    /// ```
    #[must_use]
    pub fn whole(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), complete: true }
    }

    /// The beginning of a longer body, for tests of a plugin that peeks.
    #[must_use]
    pub fn beginning(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), complete: false }
    }

    /// The bytes as text, if they are UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}
