//! Unary calls of the Connect protocol: the message is the body, or with GET a query parameter; what gRPC has in trailers is
//! in headers; an error is a document of JSON with a status of HTTP.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use percent_encoding::percent_decode_str;
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind, connect_error};
use witgate_exchange::grpc::details;
use witgate_exchange::grpc::message::{self, CallStatus, MessageReader, PREFIX, framed, whole};
use witgate_exchange::grpc::{
    BridgedCall, Code, GRPC_ACCEPT_ENCODING, GRPC_ENCODING, GRPC_STATUS, GRPC_TIMEOUT, connect_timeout,
};

use super::{Translated, bad, upstream_target};

const VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// The most bytes of a message whose length is not known before.
const MOST: usize = 4 << 20;

/// The format of the messages of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Proto,
    Json,
}

impl Form {
    fn read(name: &str) -> Option<Self> {
        match name {
            "proto" => Some(Form::Proto),
            "json" => Some(Form::Json),
            _ => None,
        }
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
        Form::read(kind.to_ascii_lowercase().strip_prefix("application/")?)
    }

    fn of_grpc(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Proto => "application/grpc+proto",
            Form::Json => "application/grpc+json",
        })
    }

    fn of_connect(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Proto => "application/proto",
            Form::Json => "application/json",
        })
    }
}

/// Whether the content type is that of streams of the protocol.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.starts_with(b"application/connect+")
}

/// The call of gRPC for a request, and the format of its messages. `is_safe` is whether a method, by its path, may be called
/// with GET, which any web page can make a browser send.
pub(super) async fn request(
    facts: &Facts,
    body: Body,
    is_safe: impl Fn(&str) -> bool,
) -> Result<(Translated, Form), Fault> {
    let path = upstream_target(facts).path();
    let target = PathAndQuery::try_from(path).map_err(|_| Fault::new(FaultKind::BadPath))?;
    let mut headers = facts.head.headers.clone();
    let (form, encoding, body) = if facts.head.method == Method::GET {
        if !is_safe(path) {
            let detail =
                "this method may not be called with GET: it is none of the route's `retry.safe_methods`";
            let fault = Fault::new(FaultKind::MethodNotAllowed).detail(detail);
            return Err(fault.header(ALLOW, HeaderValue::from_static("POST")));
        }
        let query = Query::read(facts.head.query().unwrap_or_default())?;
        (query.form, query.encoding, Body::from(framed(query.compressed, &query.message)))
    } else {
        let form =
            Form::of(&headers).ok_or_else(|| bad("the content type is none of the Connect protocol"))?;
        let encoding = headers.remove(CONTENT_ENCODING).filter(|encoding| encoding != "identity");
        let compressed = encoding.is_some();
        (form, encoding, with_prefix(body, compressed).await?)
    };
    if let Some(timeout) = headers.remove(TIMEOUT) {
        let timeout =
            connect_timeout(&timeout).ok_or_else(|| bad("`connect-timeout-ms` is no time limit"))?;
        headers.insert(GRPC_TIMEOUT, timeout);
    }
    let accepted = headers.remove(ACCEPT_ENCODING).and_then(|accepted| accepted_encodings(&accepted));
    headers.remove(VERSION);
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, form.of_grpc());
    headers.extend(encoding.map(|encoding| (GRPC_ENCODING, encoding)));
    headers.extend(accepted.map(|accepted| (GRPC_ACCEPT_ENCODING, accepted)));
    Ok((Translated { headers, method: Method::POST, target, body }, form))
}

/// The query of a call with GET ("Unary-Get-Request" of the Connect protocol).
struct Query {
    form: Form,
    message: Vec<u8>,
    compressed: bool,
    encoding: Option<HeaderValue>,
}

impl Query {
    fn read(query: &str) -> Result<Self, Fault> {
        let (mut form, mut message, mut base64, mut encoding) = (None, None, false, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "encoding" => form = Form::read(value),
                "message" => message = Some(value),
                "base64" => base64 = value == "1",
                "compression" if value != "identity" && !value.is_empty() => {
                    let value = HeaderValue::from_str(value);
                    encoding = Some(value.map_err(|_| bad("the compression is no name"))?);
                }
                _ => {}
            }
        }
        let form = form.ok_or_else(|| bad("the query has no `encoding` that is known: `proto` or `json`"))?;
        let message: Cow<'_, [u8]> =
            percent_decode_str(message.ok_or_else(|| bad("the query has no `message`"))?).into();
        let message = match base64 {
            true => details::decode_binary_url(&message)
                .ok_or_else(|| bad("the message is not base64 for URLs"))?,
            false => message.into_owned(),
        };
        Ok(Query { form, message, compressed: encoding.is_some(), encoding })
    }
}

/// The names in `Accept-Encoding` that are not refused by a weight of 0.
fn accepted_encodings(value: &HeaderValue) -> Option<HeaderValue> {
    let named = value.to_str().ok()?.split(',').filter_map(|one| {
        let mut parts = one.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty() && *name != "*")?;
        let refused =
            parts.any(|weight| weight.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0)));
        (!refused).then_some(name)
    });
    let named: Vec<&str> = named.collect();
    (!named.is_empty()).then(|| HeaderValue::from_str(&named.join(",")).ok()).flatten()
}

/// The body as a message. If its length is not known it is read as a whole first.
async fn with_prefix(body: Body, compressed: bool) -> Result<Body, Fault> {
    match body.size_hint().exact().and_then(|length| u32::try_from(length).ok()) {
        Some(length) => {
            let prefix = Some(Bytes::copy_from_slice(&message::prefix(compressed, length)));
            Ok(Body::wrap(Prefixed { prefix, body, ended: false }))
        }
        None => Ok(Body::from(framed(compressed, &whole(body, MOST).await?))),
    }
}

/// A body with the prefix of a message before it.
struct Prefixed {
    prefix: Option<Bytes>,
    body: Body,
    ended: bool,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(prefix) = this.prefix.take() {
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        let polled = Pin::new(&mut this.body).poll_frame(context);
        this.ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let prefix = self.prefix.as_ref().map_or(0, |_| PREFIX as u64);
        self.body
            .size_hint()
            .exact()
            .map_or_else(SizeHint::default, |rest| SizeHint::with_exact(prefix + rest))
    }
}

/// The response of Connect for one of gRPC, which is read to its end, because only the end says whether it is a success.
pub(super) async fn response(
    response: Response<Body>,
    form: Form,
    call: &BridgedCall,
) -> Result<Response<Body>, Fault> {
    let head_status = CallStatus::of_head(&response);
    let (parts, body) = response.into_parts();
    let mut reader = MessageReader::new(body);
    let mut answer = None;
    let status = match head_status {
        Some(status) => status,
        None => {
            answer = reader.next().await?;
            match reader.next().await? {
                Some(_) => CallStatus::new(
                    Code::UNIMPLEMENTED,
                    "the answer has several messages, but the call is unary",
                ),
                None => reader.status(),
            }
        }
    };
    let status = match (&answer, status) {
        (None, status) if status.code == Code::OK => {
            CallStatus::new(Code::UNIMPLEMENTED, "the call ended without a message")
        }
        (_, status) => status,
    };
    let encoding = parts.headers.get(GRPC_ENCODING).filter(|encoding| *encoding != "identity");
    let compressed = answer.as_ref().is_some_and(|answer| answer.compressed);
    if status.code == Code::OK && compressed && encoding.is_none() {
        return Err(Fault::new(FaultKind::UpstreamProtocol)
            .cause("a message is marked as compressed, but nothing says how"));
    }
    call.end(status.code);
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    let is_trailers_only = parts.headers.contains_key(GRPC_STATUS);
    let prefix = if is_trailers_only { "trailer-" } else { "" };
    headers.extend(message::metadata(&parts.headers, prefix).map(|(name, value)| (name, value.clone())));
    if let Some(trailers) = reader.trailers() {
        headers.extend(message::metadata(trailers, "trailer-").map(|(name, value)| (name, value.clone())));
    }
    for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
        headers.remove(name);
    }
    headers.remove("trailer-content-type");
    let body = match answer.filter(|_| status.code == Code::OK) {
        Some(answer) => {
            headers.insert(CONTENT_TYPE, form.of_connect());
            headers
                .extend(encoding.filter(|_| compressed).map(|encoding| (CONTENT_ENCODING, encoding.clone())));
            answer.bytes
        }
        None => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            connect_error(status.code, &status.message, &status.details)
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.status_mut() = if status.code == Code::OK { StatusCode::OK } else { status.code.http_status() };
    *response.body_mut() = Body::from(body);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_in_both_codings() {
        let read =
            |query: &str| Query::read(query).map(|query| (query.form, query.message, query.compressed));
        assert_eq!(
            read("connect=v1&encoding=json&message=%7B%7D").unwrap(),
            (Form::Json, b"{}".to_vec(), false)
        );
        let query = "connect=v1&encoding=proto&base64=1&message=CgFh&compression=gzip";
        assert_eq!(read(query).unwrap(), (Form::Proto, vec![10, 1, 97], true));
        assert_eq!(read("encoding=proto&base64=1&message=_w==").unwrap().1, [0xff]);
        for wrong in ["", "encoding=xml&message=", "encoding=proto", "encoding=proto&base64=1&message=!"] {
            assert_eq!(
                Query::read(wrong).err().map(|fault| fault.kind),
                Some(FaultKind::BadRequest),
                "{wrong}"
            );
        }
    }

    #[test]
    fn accepted_encodings_have_no_weights() {
        let read = |text: &'static str| accepted_encodings(&HeaderValue::from_static(text));
        assert_eq!(read("gzip;q=0.5, br;q=0, *, identity"), Some(HeaderValue::from_static("gzip,identity")));
        assert_eq!(read("*"), None);
    }
}
