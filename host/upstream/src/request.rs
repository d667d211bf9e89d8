//! The request as an endpoint receives it.

pub(crate) mod affinity;
pub(crate) mod deadline;
pub(crate) mod fetch;
pub(crate) mod forward;
pub(crate) mod mirror;
pub(crate) mod sticky;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, Request, Version};
use http_body::Body as _;
use witgate_exchange::cookie;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::informational::Informational;
use witgate_exchange::replay::memory::BodyMemory;
use witgate_exchange::trace::{REQUEST_ID, SpanId, TraceContext};
use witgate_wire::proxy_protocol::Client;

use super::Upstream;
use super::deliver::Rules;
use super::endpoint::Endpoint;
use crate::balancer::Caller;
use crate::request::affinity::Affinity;
use crate::request::deadline::Allowance;
use crate::send::upload::Upload;

/// How often a call of gRPC was sent before (gRPC retry design, "Exposed Retry Metadata").
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// All parts of a request except its body. The request itself is built for each attempt, since it depends on the
/// endpoint.
pub(crate) struct UpstreamRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a PathAndQuery,
    /// End-to-end headers.
    pub(crate) headers: &'a HeaderMap,
    /// The value of `Host`; `None` for that of the endpoint.
    pub(crate) authority: Option<&'a str>,
    /// The protocol to switch to.
    pub(crate) upgrade: Option<&'a HeaderValue>,
    /// The parts of the request from which its affinity is computed, for whichever upstream it goes to.
    pub(crate) caller: Caller<'a>,
    pub(crate) affinity: Affinity,
    /// The name of the session cookie, which is exchanged by client and gateway only and not sent to the endpoint.
    pub(crate) without_cookie: Option<&'a str>,
    /// The headers that the gateway adds to a client's request. `None` for a plugin's `fetch`.
    pub(crate) forwarding: Option<ForwardingHeaders<'a>>,
    /// The trace of which each attempt is a span. `None` if trace headers are forwarded unchanged.
    pub(crate) trace: Option<&'a TraceContext>,
    /// The rules for sending the request again.
    pub(crate) rules: Rules<'a>,
    /// Whether it is a call of gRPC.
    pub(crate) grpc: bool,
    /// The time left, if the endpoint is told.
    pub(crate) allowance: Option<Allowance<'a>>,
    /// The way to the client for informational responses of endpoints; `None` if there is no client.
    pub(crate) informational: Option<&'a Informational>,
    /// The count to which bytes of a kept body are added.
    pub(crate) body_memory: &'a Arc<BodyMemory>,
    /// The client's connection, if the endpoint is told of it by the PROXY protocol.
    pub(crate) client: Option<Client>,
}

/// The longest time of one attempt, and the name of the setting that it comes from.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) time: Duration,
    setting: &'static str,
}

impl Patience {
    /// The fault of an attempt that took longer.
    pub(crate) fn exceeded(self, endpoint: &Endpoint) -> Fault {
        let Patience { time, setting } = self;
        Fault::new(FaultKind::FirstByteTimeout)
            .cause(format!("{}: no response head within {time:?} (`{setting}`)", endpoint.name))
    }
}

/// The headers by which the gateway describes a client's request to the upstream.
#[derive(Clone, Copy)]
pub(crate) struct ForwardingHeaders<'a> {
    pub(crate) request_id: &'a str,
    /// The HTTP version that the client spoke.
    pub(crate) received: Version,
}

impl<'a> UpstreamRequest<'a> {
    /// The same request for another upstream. Affinity, retry rules and the way in which the deadline is told
    /// differ between upstreams.
    pub(crate) fn to<'b>(&'b self, other: &'b Upstream) -> UpstreamRequest<'b>
    where
        'a: 'b,
    {
        let header = other.deadline_header.as_ref();
        UpstreamRequest {
            affinity: other.affinity(&self.caller),
            rules: self.rules.of(&other.config.retry),
            allowance: self.allowance.map(|allowance| Allowance { header, ..allowance }),
            client: self.client.clone(),
            ..*self
        }
    }
}

impl UpstreamRequest<'_> {
    /// Whether the request may be sent again although it may have been processed (RFC 9110 section 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent() && self.upgrade.is_none()
    }

    /// Whether the request may be sent again because of its method or the configuration. A switch of protocols
    /// never may.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.upgrade.is_none()
            && (self.method.is_idempotent() || self.rules.any_method() || self.is_safe_call())
    }

    /// Whether it is a call of gRPC whose method is named as safe to repeat.
    fn is_safe_call(&self) -> bool {
        self.grpc && self.rules.safe_methods().iter().any(|method| method.matches(self.target.path()))
    }

    /// Whether the deadline is that of the caller, who wants no answer after it.
    pub(crate) fn caller_sets_deadline(&self) -> bool {
        self.allowance.is_some_and(|allowance| allowance.by_caller)
    }

    /// The longest time of one attempt from the end of the request to the response head.
    pub(crate) fn patience(&self, first_byte: Duration) -> Patience {
        match self.rules.per_try_timeout() {
            Some(per_try) if self.is_repeatable() && per_try < first_byte => {
                Patience { time: per_try, setting: "retry.per_try_timeout" }
            }
            _ => Patience { time: first_byte, setting: "first_byte_timeout" },
        }
    }

    /// The validated value of `Host`.
    ///
    /// # Errors
    /// `BadRequest` if the authority is invalid, or if the method is CONNECT, which would open a tunnel.
    pub(crate) fn host<'a>(&'a self, endpoint: &'a Endpoint) -> Result<&'a [u8], Fault> {
        if *self.method == Method::CONNECT {
            return Err(Fault::new(FaultKind::BadRequest).detail("CONNECT is not forwarded").unsent());
        }
        match self.authority {
            Some(authority) if is_graphic(authority) => Ok(authority.as_bytes()),
            Some(_) => Err(bad_authority()),
            None => Ok(endpoint.authority.as_bytes()),
        }
    }

    /// The value of an end-to-end header as it is forwarded. `None` if nothing is left of it after the session
    /// cookie was removed.
    pub(crate) fn outgoing<'v>(
        &self,
        name: &HeaderName,
        value: &'v HeaderValue,
    ) -> Option<Cow<'v, HeaderValue>> {
        match self.without_cookie {
            Some(cookie) if *name == COOKIE => cookie::without(value, cookie).map(Cow::Owned),
            _ => Some(Cow::Borrowed(value)),
        }
    }

    /// Builds the request for an endpoint that speaks HTTP/2. `span` is the span of the attempt, if there is a
    /// trace; a call of gRPC is told how many attempts there were before.
    ///
    /// # Errors
    /// `UpgradeRefused` if a switch of protocols is requested, which HTTP/2 does not have; and as
    /// [`UpstreamRequest::host`].
    pub(crate) fn request(
        &self,
        endpoint: &Endpoint,
        tls: bool,
        body: Upload,
        (span, previous_attempts): (Option<SpanId>, u32),
    ) -> Result<Request<Upload>, Fault> {
        if self.upgrade.is_some() {
            return Err(Fault::new(FaultKind::UpgradeRefused).cause("the upstream speaks HTTP/2").unsent());
        }
        let framing = Framing::of(&body);
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 8);
        for (name, value) in self.headers {
            if is_of_connection(name) || *name == TRAILER && framing == Framing::Nothing {
                continue;
            }
            if let Some(value) = self.outgoing(name, value) {
                headers.append(name, value.into_owned());
            }
        }
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(length) = framing.content_length(self.method) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(forwarding) = &self.forwarding {
            forwarding.stamp(&mut headers);
        }
        if let Some((trace, span)) = self.trace.zip(span) {
            trace.inject(&span, &mut headers);
        }
        if let Some(allowance) = &self.allowance {
            for (name, value) in allowance.fields() {
                headers.insert(name, value);
            }
        }
        if self.grpc && previous_attempts > 0 {
            let before = headers.get(PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse().ok());
            let attempts = previous_attempts.saturating_add(before.unwrap_or(0));
            headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(attempts));
        }
        let uri = absolute(self.host(endpoint)?, self.target, tls)?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Whether a header describes one hop or its framing, so that it is written anew for each hop. `Expect` is handled
/// by the gateway, which asks for the body once it can forward it.
pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT | CONNECTION | UPGRADE | TE)
}

/// How the end of a request body is marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    #[default]
    Nothing,
    /// The body has this many bytes.
    Length(u64),
    /// The length of the body is unknown.
    Open,
}

impl Framing {
    /// The framing of this body. It never depends on the client's headers.
    pub(crate) fn of(upload: &Upload) -> Framing {
        match upload.size_hint().exact() {
            Some(0) if upload.is_end_stream() => Framing::Nothing,
            Some(length) => Framing::Length(length),
            None => Framing::Open,
        }
    }

    /// The value of `Content-Length`. A method that usually has content declares its absence by 0 (RFC 9110
    /// section 8.6).
    pub(crate) fn content_length(self, method: &Method) -> Option<u64> {
        match self {
            Framing::Length(length) => Some(length),
            Framing::Nothing if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => Some(0),
            Framing::Nothing | Framing::Open => None,
        }
    }
}

impl ForwardingHeaders<'_> {
    /// The value of `Via` (RFC 9110 section 7.6.3): the version in which the request was received, and the name of
    /// the gateway.
    pub(crate) fn via(&self) -> &'static str {
        match self.received {
            Version::HTTP_2 => "2 witgate",
            Version::HTTP_10 => "1.0 witgate",
            _ => "1.1 witgate",
        }
    }

    /// Adds `Via` and the request id.
    fn stamp(&self, headers: &mut HeaderMap) {
        headers.append(VIA, HeaderValue::from_static(self.via()));
        if let Ok(id) = HeaderValue::from_str(self.request_id) {
            headers.insert(REQUEST_ID, id);
        }
    }
}

fn absolute(host: &[u8], target: &PathAndQuery, tls: bool) -> Result<Uri, Fault> {
    let authority = Authority::try_from(host).map_err(|_| bad_authority())?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query = Some(target.clone());
    Uri::from_parts(parts).map_err(|_| Fault::new(FaultKind::BadPath).unsent())
}

/// Whether all characters are visible. There is no early exit, so that several bytes can be checked at once.
fn is_graphic(text: &str) -> bool {
    text.bytes().fold(true, |graphic, byte| graphic & byte.is_ascii_graphic())
}

fn bad_authority() -> Fault {
    Fault::new(FaultKind::BadRequest).detail("the authority cannot be sent on").unsent()
}
