//! The settings of the shared cache.

use std::collections::BTreeMap;
use std::time::Duration;

/// `[cache]`: the memory that all routes with a cache share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of all stored responses and of those that are being stored, with the overhead of each.
    pub memory: usize,
    /// Bytes of the largest response body that is stored, at most a thirty-second of `memory`.
    pub object: usize,
}

/// `routes.cache`: what is stored of the responses of a route, and who may share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCache {
    /// Who may share the responses to requests with an identity.
    pub share: Share,
    /// The query parameters that the upstream gets and that are part of the key; `None`: the query as it is.
    pub query: Option<Vec<String>>,
    /// Request headers, in lower case, that are part of the key in addition to those that `Vary` names.
    pub headers: Vec<String>,
    /// What is done with responses that set cookies.
    pub set_cookie: SetCookie,
    /// Freshness lifetimes by status, for responses that state none.
    pub lifetimes: BTreeMap<u16, Duration>,
    /// Whether a lifetime is computed from `Last-Modified` if a response states none (RFC 9111 section 4.2.2).
    pub heuristics: bool,
    /// How long after it became stale a response may be used while it is revalidated, if it does not say so itself.
    pub stale_while_revalidate: Duration,
    /// How long after it became stale a response may be used if the upstream fails, if it does not say so itself.
    pub stale_if_error: Duration,
    /// Whether the directives of requests are obeyed (RFC 9111 section 5.2.1).
    pub request_directives: bool,
    /// How long a request waits for the same request of another client at most.
    pub wait: Duration,
}

/// `routes.cache.share`: who may share the responses to requests with an identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Share {
    /// Nobody, unless the response itself allows it (RFC 9111 section 3.5).
    #[default]
    Explicit,
    /// The requests of the same identity.
    Identity,
    /// The requests of identities with the same value of this claim.
    Claim(String),
}

/// `routes.cache.set_cookie`: what is done with responses that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SetCookie {
    /// They are not stored.
    #[default]
    Refuse,
    /// They are stored without `Set-Cookie`.
    Remove,
    /// They are stored as they are: everybody gets the same cookie.
    Keep,
}
