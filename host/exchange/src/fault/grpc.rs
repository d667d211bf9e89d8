//! Faults and refusals for callers of gRPC: status 200 and only trailers ("Trailers-Only" of gRPC over HTTP/2), the same in
//! the headers of gRPC-Web, and the JSON errors of Connect.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::{Dialect, Fault, FaultKind};
use crate::body::Body;
use crate::grpc::details::{self, Detail};
use crate::grpc::{Code, GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, encode_message};

/// Headers that describe the body of a refusal, which is replaced.
const OF_BODY: [HeaderName; 8] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CONTENT_RANGE,
    CONTENT_DISPOSITION,
    ETAG,
    LAST_MODIFIED,
    TRANSFER_ENCODING,
];

/// The most bytes of a refusal's body that become the message.
const MESSAGE: usize = 4096;

/// The gRPC status of a kind of fault.
///
/// A client may send a call again that is UNAVAILABLE. So every fault after which the endpoint may have processed the
/// call has another status. The exception is a connection that broke off, which gRPC itself calls UNAVAILABLE.
pub(super) fn code(kind: FaultKind) -> Code {
    match kind {
        FaultKind::PluginFailed | FaultKind::UpstreamProtocol => Code::INTERNAL,
        // "cannot connect", whatever the reason: nothing was sent.
        FaultKind::ConnectTimeout => Code::UNAVAILABLE,
        FaultKind::BadRequest | FaultKind::BadPath | FaultKind::UpgradeRefused => Code::INVALID_ARGUMENT,
        other => Code::of_refusal(other.describe().status),
    }
}

/// The response to a caller of this dialect for a fault.
pub(super) fn response(fault: &Fault, dialect: Dialect, method: &Method) -> Response<Body> {
    let message: Cow<'_, str> = match (&fault.detail, fault.kind) {
        (Some(detail), _) => Cow::Borrowed(detail),
        (None, FaultKind::RequestTimeout) => "the deadline has passed".into(),
        (None, kind) => kind.describe().title.into(),
    };
    let mut response = Response::new(Body::Empty);
    let retry_after = fault.headers.iter().find(|(name, _)| *name == RETRY_AFTER).map(|(_, value)| value);
    write(&mut response, (code(fault.kind), &message, retry_after), dialect, method);
    response
}

/// Turns a refusal by a plugin or a filter, which has a status of HTTP, into the form of this dialect. The message is the
/// refusal's text, or what its problem document says. Other headers, such as those of rate limits, stay.
pub(super) fn refuse(response: &mut Response<Body>, dialect: Dialect, method: &Method) {
    let status = response.status();
    let message = message(response.headers(), response.body()).unwrap_or_else(|| {
        status.canonical_reason().map_or_else(|| format!("status {}", status.as_u16()), str::to_owned)
    });
    for name in OF_BODY {
        response.headers_mut().remove(name);
    }
    let retry_after = response.headers().get(RETRY_AFTER).cloned();
    write(response, (Code::of_refusal(status), &message, retry_after.as_ref()), dialect, method);
}

/// What the body of a refusal says.
fn message(headers: &HeaderMap, body: &Body) -> Option<String> {
    let Body::Full(bytes) = body else { return None };
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && text.len() <= MESSAGE)?;
    if kind.starts_with("text/plain") {
        return Some(text.trim().to_owned());
    }
    let document: serde_json::Value = kind.contains("json").then(|| serde_json::from_str(text).ok())??;
    let told = ["detail", "title", "message", "error"].iter().find_map(|key| document.get(key)?.as_str());
    told.map(str::to_owned)
}

fn write(
    response: &mut Response<Body>,
    (code, message, retry_after): (Code, &str, Option<&HeaderValue>),
    dialect: Dialect,
    method: &Method,
) {
    let details: Vec<Detail> = retry_after.and_then(delay).map(Detail::retry_after).into_iter().collect();
    *response.body_mut() = Body::Empty;
    *response.status_mut() = StatusCode::OK;
    let kind = match dialect {
        Dialect::Connect | Dialect::Problem => {
            let error = connect_error(code, message, &details);
            *response.status_mut() = code.http_status();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(error.len()));
            if method != Method::HEAD {
                *response.body_mut() = Body::from(error);
            }
            return;
        }
        Dialect::Grpc => "application/grpc",
        Dialect::GrpcWeb(false) => "application/grpc-web+proto",
        Dialect::GrpcWeb(true) => "application/grpc-web-text+proto",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code.number())));
    headers.insert(GRPC_MESSAGE, encode_message(message));
    if !details.is_empty() {
        headers.insert(GRPC_STATUS_DETAILS, details::encode(code, message, &details));
    }
}

/// The delay that `Retry-After` asks for in seconds.
fn delay(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The body of an error of a unary call ("Error" of the Connect protocol).
pub fn connect_error(code: Code, message: &str, details: &[Detail]) -> Bytes {
    let mut error = serde_json::json!({ "code": code.name() });
    if !message.is_empty() {
        error["message"] = message.into();
    }
    if !details.is_empty() {
        let shown = |detail: &Detail| serde_json::json!({ "type": detail.kind, "value": detail.encoded() });
        error["details"] = details.iter().map(shown).collect();
    }
    Bytes::from(error.to_string())
}
