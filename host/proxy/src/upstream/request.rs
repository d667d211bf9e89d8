//! The request an endpoint sees.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, Request, Version};
use http_body::Body as _;
use witgate_config::model::UpstreamProtocol;

use super::endpoint::Endpoint;
use super::upload::Upload;
use crate::fault::{Fault, FaultKind};
use crate::telemetry::trace::{REQUEST_ID, TraceContext};

/// Everything about a request but its body. The request itself is made for each attempt, since it depends on the
/// endpoint.
pub(super) struct Order<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a PathAndQuery,
    /// End-to-end headers.
    pub(super) headers: &'a HeaderMap,
    /// What `Host` says; none: the endpoint's.
    pub(super) authority: Option<&'a str>,
    /// The protocol to switch to.
    pub(super) upgrade: Option<&'a HeaderValue>,
    pub(super) hash_key: Option<&'a [u8]>,
    /// What the gateway adds for a client's request; a plugin's `fetch` brings its own.
    pub(super) passport: Option<Passport<'a>>,
}

/// What the gateway tells the upstream about a client's request.
pub(super) struct Passport<'a> {
    pub(super) trace: &'a TraceContext,
    pub(super) request_id: &'a str,
    /// The version the client spoke.
    pub(super) received: Version,
}

impl Order<'_> {
    /// Whether the request may be sent again although it may have been processed (RFC 9110 section 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent() && self.upgrade.is_none()
    }

    /// Makes the request for an endpoint.
    ///
    /// # Errors
    /// `UpgradeRefused` if the endpoint's protocol knows no upgrade; `BadRequest` if the authority cannot be one or the
    /// method is CONNECT.
    pub(super) fn request(
        &self,
        endpoint: &Endpoint,
        protocol: UpstreamProtocol,
        tls: bool,
        body: Upload,
    ) -> Result<Request<Upload>, Fault> {
        if *self.method == Method::CONNECT {
            // hyper would open a tunnel of its own.
            return Err(Fault::new(FaultKind::BadRequest).detail("CONNECT is not forwarded").unsent());
        }
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 8);
        let host = match self.authority {
            Some(authority) => HeaderValue::from_str(authority).map_err(|_| bad_authority())?,
            None => endpoint.authority.clone(),
        };
        let http2 = protocol == UpstreamProtocol::Http2;
        let uri = if http2 { absolute(&host, self.target, tls)? } else { Uri::from(self.target.clone()) };
        if !http2 {
            headers.insert(HOST, host);
        }
        self.copy_headers(&mut headers);
        self.add_connection_headers(&mut headers, http2)?;
        add_framing(&mut headers, self.method, &body, http2);
        if let Some(passport) = &self.passport {
            passport.stamp(&mut headers);
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// End-to-end headers only, whatever the caller's map holds. `Expect` was met by the gateway, which asks for the
    /// body once it can send it on.
    fn copy_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in self.headers {
            let framing = matches!(
                *name,
                HOST | CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT | CONNECTION | UPGRADE | TE
            );
            if !framing {
                headers.append(name, value.clone());
            }
        }
    }

    /// Of hop-by-hop headers, only what is meant for this hop: a switch of protocols, and that trailers are welcome.
    fn add_connection_headers(&self, headers: &mut HeaderMap, http2: bool) -> Result<(), Fault> {
        let trailers = self.headers.contains_key(TE);
        if trailers || http2 {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(upgrade) = self.upgrade {
            if http2 {
                return Err(Fault::new(FaultKind::UpgradeRefused)
                    .cause("the upstream speaks HTTP/2")
                    .unsent());
            }
            headers.insert(UPGRADE, upgrade.clone());
        }
        let options = match (self.upgrade.is_some(), trailers && !http2) {
            (true, true) => "upgrade, te",
            (true, false) => "upgrade",
            (false, true) => "te",
            (false, false) => return Ok(()),
        };
        headers.insert(CONNECTION, HeaderValue::from_static(options));
        Ok(())
    }
}

impl Passport<'_> {
    /// `Via` (RFC 9110 section 7.6.3), trace context and request id.
    fn stamp(&self, headers: &mut HeaderMap) {
        let received = match self.received {
            Version::HTTP_2 => "2 witgate",
            Version::HTTP_10 => "1.0 witgate",
            _ => "1.1 witgate",
        };
        headers.append(VIA, HeaderValue::from_static(received));
        self.trace.inject(headers);
        if let Ok(id) = HeaderValue::from_str(self.request_id) {
            headers.insert(REQUEST_ID, id);
        }
    }
}

/// The framing follows from the body, never from what the client's headers said.
fn add_framing(headers: &mut HeaderMap, method: &Method, body: &Upload, http2: bool) {
    match body.size_hint().exact() {
        Some(0) if body.is_end_stream() => {
            // A method that has content says that there is none (RFC 9110 section 8.6).
            if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            }
        }
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None if http2 => {}
        // Said explicitly, since hyper would take a GET without a length for one without a body.
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

fn absolute(host: &HeaderValue, target: &PathAndQuery, tls: bool) -> Result<Uri, Fault> {
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| bad_authority())?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query = Some(target.clone());
    Uri::from_parts(parts).map_err(|_| Fault::new(FaultKind::BadPath).unsent())
}

fn bad_authority() -> Fault {
    Fault::new(FaultKind::BadRequest).detail("the authority cannot be sent on").unsent()
}
