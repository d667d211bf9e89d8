//! A request's head once it is known to be unambiguous.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::identity::Identity;
use crate::telemetry::route_name::RouteName;
use crate::telemetry::trace::{self, TraceContext};

/// The head of an admitted request: what the router, the filters and the plugins see.
///
/// Made by [`crate::protocol::hygiene`]. Hop-by-hop headers, identity headers and untrusted forwarded headers are gone.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The one normalised path and query that router, filters and plugins see.
    pub target: PathAndQuery,
    /// The path and query as the client sent them, where `target` is another.
    pub received_target: Option<PathAndQuery>,
    /// What the upstream is to see in place of `target`; set by route rewrites and plugins, normalised again.
    pub upstream_target: Option<PathAndQuery>,
    /// The method the upstream is to see in place of `method`; set by plugins, validated.
    pub upstream_method: Option<Method>,
    /// `Host` or `:authority`, lower-case, with port if one was given.
    pub authority: Arc<str>,
    /// What scheme the client spoke.
    pub scheme: Scheme,
    /// End-to-end headers only; `te: trailers` stays, since the gateway passes trailers on.
    pub headers: HeaderMap,
    /// Trailers, once the body's end has been seen.
    pub trailers: Option<HeaderMap>,
    /// The client as it is believed to be.
    pub client: Client,
    /// Name of the route; empty before routing.
    pub route: RouteName,
    /// Parameters of the route's path, percent-decoded.
    pub parameters: Vec<(Arc<str>, String)>,
    /// Who calls, after authentication.
    pub identity: Option<Arc<Identity>>,
    /// The request id.
    pub request_id: Arc<str>,
    /// The trace this request belongs to; none: no spans are exported, and what came about one is among the headers, to be
    /// passed on untouched.
    pub trace: Option<TraceContext>,
}

impl RequestHead {
    /// The normalised path, beginning with `/`.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The path and query as the client sent them.
    pub fn received_target(&self) -> &PathAndQuery {
        self.received_target.as_ref().unwrap_or(&self.target)
    }

    /// `traceparent` as plugins see it: with the span of this hop, or, where no spans are exported, as it came. None: it did
    /// not come, or several did.
    pub fn traceparent(&self) -> Option<String> {
        match &self.trace {
            Some(trace) => Some(String::from_utf8_lossy(&trace.traceparent(&trace.span)).into_owned()),
            None => trace::received(&self.headers).map(str::to_owned),
        }
    }

    /// The id of the trace, as 32 hexadecimal digits: of the one whose spans are exported, or of the one that came.
    pub(crate) fn trace_id(&self) -> Option<String> {
        match &self.trace {
            Some(trace) => Some(trace.trace_id_text()),
            None => trace::received_id(&self.headers),
        }
    }

    /// The authority without port.
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }
}

/// An authority without its port.
pub fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => &authority[..colon],
        _ => authority,
    }
}

/// The scheme of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's address; behind trusted proxies the first untrusted one.
    pub address: IpAddr,
    /// The peer of the connection.
    pub peer: SocketAddr,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Fields of a verified client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's distinguished name, RFC 4514 form.
    pub subject: String,
    /// Subject alternative names, `dns:…`, `uri:…`, `email:…`, `ip:…`.
    pub names: Vec<String>,
    /// SHA-256 of the DER encoding, lower-case hexadecimal.
    pub fingerprint: String,
}
