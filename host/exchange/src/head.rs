//! The head of a request after it was checked and normalised.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::identity::Identity;
use crate::notes::Notes;
use crate::settling::Settling;
use crate::trace::{self, TraceContext};

/// The head of an admitted request, as the router, the filters and the plugins see it.
///
/// It is made by the checks of the data path (`hygiene`), which remove hop-by-hop headers, identity headers and
/// untrusted forwarding headers.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The normalised path and query that router, filters and plugins see.
    pub target: PathAndQuery,
    /// The path and query as the client sent them, if they differ from `target`.
    pub received_target: Option<PathAndQuery>,
    /// The path and query for the upstream in place of `target`. Route rewrites and plugins set it, and it is
    /// normalised again.
    pub upstream_target: Option<PathAndQuery>,
    /// The method for the upstream in place of `method`. Plugins set it, and it is validated.
    pub upstream_method: Option<Method>,
    /// `Host` or `:authority`, in lower case, with the port if one was given.
    pub authority: Arc<str>,
    /// The scheme of the client's connection, or what a trusted proxy says of it.
    pub scheme: Scheme,
    /// End-to-end headers only; `te: trailers` is kept, since the gateway forwards trailers.
    pub headers: HeaderMap,
    /// Trailers, once the end of the body was read.
    pub trailers: Option<HeaderMap>,
    /// The client. Its address is taken from the forwarding headers if a trusted proxy sent them.
    pub client: Client,
    /// Name of the route; `None` before routing and if no route matched.
    pub route: Option<Arc<str>>,
    /// Parameters of the route's path, percent-decoded.
    pub parameters: Vec<(Arc<str>, String)>,
    /// What plugins leave for later plugins and for the upstream; `None` if no binding of the route may.
    pub notes: Option<Arc<Notes>>,
    /// What was drawn from rate limits and may be settled; `None` if no binding of the route says costs afterwards.
    pub settling: Option<Arc<Settling>>,
    /// The caller's identity, after authentication.
    pub identity: Option<Arc<Identity>>,
    /// The request id.
    pub request_id: Arc<str>,
    /// The trace of this request. `None` if no spans are exported: then trace headers of the client stay among the
    /// headers and are forwarded unchanged.
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

    /// `traceparent` as plugins see it: with the span of this hop, or as received if no spans are exported. `None`
    /// if the request has none or several.
    pub fn traceparent(&self) -> Option<String> {
        match &self.trace {
            Some(trace) => Some(String::from_utf8_lossy(&trace.traceparent(&trace.span)).into_owned()),
            None => trace::received(&self.headers).map(str::to_owned),
        }
    }

    /// The trace id as 32 hexadecimal digits, from the exported trace or else from the received `traceparent`.
    pub fn trace_id(&self) -> Option<String> {
        match &self.trace {
            Some(trace) => Some(trace.trace_id_text()),
            None => trace::received_id(&self.headers),
        }
    }

    /// The name of the route; empty if there is none.
    pub fn route_name(&self) -> &str {
        self.route.as_deref().unwrap_or_default()
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

/// The client and its connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's address; behind trusted proxies the first address that is not trusted.
    pub address: IpAddr,
    /// The client's end of its connection: the address of the peer, or what the PROXY protocol reports.
    pub peer: SocketAddr,
    /// The other end of that connection, where an upstream is told of it by the PROXY protocol.
    pub local: Option<SocketAddr>,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The TLS connection to the gateway; `None` if there is none.
    pub tls: Option<Arc<TlsSession>>,
}

/// What was agreed on in the handshake of a TLS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSession {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The name that the client asked for (RFC 6066 section 3), in lower case.
    pub server_name: Option<Box<str>>,
    /// The protocol that was agreed on (RFC 7301).
    pub protocol: Option<Box<str>>,
}

/// Fields of a verified client certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's distinguished name (RFC 4514).
    pub subject: String,
    /// Subject alternative names, `dns:…`, `uri:…`, `email:…`, `ip:…`.
    pub names: Vec<String>,
    /// SHA-256 of the DER encoding, in lower-case hexadecimal.
    pub fingerprint: String,
    /// The SPIFFE id, where the listener's `client_identity` asks for one; its trust domain is checked.
    pub spiffe_id: Option<String>,
    /// The caller's identity, where the listener's `client_identity` takes it from the certificate.
    pub identity: Option<Arc<Identity>>,
    /// The certificate as `X-Forwarded-Client-Cert` describes it.
    pub forwarded: String,
}

/// The name that stands for a plugin in an identity that comes from a client certificate.
pub const CERTIFICATE_BINDING: &str = "client-certificate";
