//! The request that a message becomes.
//!
//! A producer chooses no method, host or path, and no header of identity, forwarding, framing or credentials. The walk
//! removes those of identity and forwarding itself, as it does for every request without a trusted peer.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::broker::Incoming;
use witgate_exchange::credentials::CREDENTIAL_HEADERS;
use witgate_exchange::trace::{BAGGAGE, TRACEPARENT, TRACESTATE};
use witgate_wire::http1::field;

use super::Consumer;

/// The prefix of the headers by which the gateway tells about a message. No message can have such a header.
pub(super) const OURS: &str = "witgate-";
const CONSUMER: HeaderName = HeaderName::from_static("witgate-consumer");
const ATTEMPT: HeaderName = HeaderName::from_static("witgate-attempt");
const REDELIVERED: HeaderName = HeaderName::from_static("witgate-redelivered");
const MESSAGE_ID: HeaderName = HeaderName::from_static("witgate-message-id");
const MESSAGE_KEY: HeaderName = HeaderName::from_static("witgate-message-key");
const NULL_BODY: HeaderName = HeaderName::from_static("witgate-null-body");

/// Headers that every request has if its message has them.
const OF_A_TRACE: [HeaderName; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];

/// Names under which keys are commonly sent, besides the headers that are credentials everywhere.
const KEYS: [&str; 4] = ["apikey", "api-key", "x-api-key", "x-auth-token"];

/// Headers that belong to a connection or that change what a request asks for. A message has neither.
const OF_A_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "range",
];

/// Bytes of the name of a header that are encoded: all but lower-case letters, digits, dots and dashes.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.');

/// Makes the request of a message.
///
/// # Errors
/// The message has a header that a request cannot hold; a sentence.
pub(super) fn request(
    consumer: &Consumer,
    message: &Incoming,
    attempt: u32,
) -> Result<Request<Body>, String> {
    let mut headers = HeaderMap::with_capacity(message.headers.len() + 6);
    for (name, value) in &message.headers {
        let name = header_name(name)?;
        if takes(consumer, &name) {
            headers.append(&name, header_value(&name, value)?);
        }
    }
    if let Some(kind) = &message.content_type {
        headers.insert(CONTENT_TYPE, header_value(&CONTENT_TYPE, kind.as_bytes())?);
    }
    if let Some(token) = token(consumer, message) {
        let value = [b"Bearer ", &token[..]].concat();
        headers.insert(AUTHORIZATION, header_value(&AUTHORIZATION, &value)?);
    }
    headers.insert(CONSUMER, text(&consumer.name));
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
    if message.redelivered || attempt > 1 {
        headers.insert(REDELIVERED, HeaderValue::from_static("true"));
    }
    for (name, value) in [(MESSAGE_ID, &message.id), (MESSAGE_KEY, &message.key)] {
        if let Some(value) = value {
            headers.insert(name, text(value));
        }
    }
    let body = match &message.body {
        Some(body) => body.clone(),
        None => {
            headers.insert(NULL_BODY, HeaderValue::from_static("true"));
            Bytes::new()
        }
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = consumer.method.clone();
    *request.uri_mut() = consumer.target.clone();
    // The checks of HTTP/2 apply, because no reader of HTTP/1 has checked the head.
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The token of the producer, if the consumer maps it and the message has one.
pub(super) fn token<'m>(consumer: &Consumer, message: &'m Incoming) -> Option<&'m Bytes> {
    let name = consumer.settings.token.as_ref()?;
    let found = message.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, token)| token)
}

/// Whether a header of a message becomes one of the request.
fn takes(consumer: &Consumer, name: &HeaderName) -> bool {
    let name = name.as_str();
    if name.starts_with(OURS)
        || OF_A_CONNECTION.contains(&name)
        || consumer.settings.token.as_deref() == Some(name)
        || name == CONTENT_TYPE.as_str()
    {
        return false;
    }
    match &consumer.settings.headers {
        Some(named) => {
            named.iter().any(|named| named == name) || OF_A_TRACE.iter().any(|known| known == name)
        }
        None => !CREDENTIAL_HEADERS.iter().any(|header| header == name) && !KEYS.contains(&name),
    }
}

/// The name of a header of a request for that of a message. What HTTP, or the rules against names with underscores, do not
/// allow is percent-encoded: `cloudEvents:id` becomes `cloudevents%3aid`.
fn header_name(name: &str) -> Result<HeaderName, String> {
    let encoded = utf8_percent_encode(&name.to_ascii_lowercase(), ENCODED).to_string().to_ascii_lowercase();
    HeaderName::from_bytes(encoded.as_bytes()).map_err(|_| format!("a header has the name {name:?}"))
}

fn header_value(name: &HeaderName, value: &[u8]) -> Result<HeaderValue, String> {
    let fits = field::is_text(value) && value.trim_ascii().len() == value.len();
    let value = HeaderValue::from_bytes(value).ok().filter(|_| fits);
    value.ok_or_else(|| {
        format!("the header `{name}` has a control character, or white space around its value")
    })
}

/// A text of the gateway or of a broker's property as a value; what a value cannot hold is percent-encoded.
fn text(value: &str) -> HeaderValue {
    let plain = HeaderValue::from_str(value).ok().filter(|_| value.trim_ascii().len() == value.len());
    plain.unwrap_or_else(|| {
        let encoded = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        HeaderValue::from_str(&encoded).expect("percent-encoded text is visible")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::tests::consumer;

    fn made(keys: &str, message: &Incoming) -> Result<HeaderMap, String> {
        request(&consumer(keys), message, 2).map(|request| request.into_parts().0.headers)
    }

    fn message(headers: &[(&str, &str)]) -> Incoming {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned().into()));
        Incoming { id: Some("i d".into()), headers: headers.collect(), ..Incoming::default() }
    }

    #[test]
    fn a_producer_sets_no_header_of_the_gateway_of_a_connection_or_of_credentials() {
        let forged = message(&[
            ("X-Order", "7"),
            ("cloudEvents:id", "a"),
            ("my_name", "b"),
            ("Authorization", "Basic x"),
            ("COOKIE", "x"),
            ("x-api-key", "x"),
            ("Host", "elsewhere"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("Witgate-Attempt", "1"),
        ]);
        let headers = made("", &forged).unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "cloudevents%3aid",
            "content-length",
            "my%5fname",
            "witgate-attempt",
            "witgate-consumer",
            "witgate-message-id",
            "witgate-null-body",
            "witgate-redelivered",
            "x-order",
        ];
        assert_eq!(names, expected);
        assert_eq!(
            (&headers["witgate-attempt"], &headers["content-length"]),
            (&HeaderValue::from(2), &HeaderValue::from(0))
        );
        assert_eq!(headers["witgate-message-id"], "i d");
    }

    #[test]
    fn a_list_of_headers_restricts_them_and_may_name_credentials_and_a_token() {
        let some = message(&[("x-a", "1"), ("x-b", "2"), ("cookie", "c"), ("x-token", "t")]);
        let headers = made("headers = [\"x-a\", \"cookie\"]\ntoken = \"x-token\"", &some).unwrap();
        assert_eq!(
            (&headers["x-a"], &headers["cookie"], &headers["authorization"]),
            (&"1".parse().unwrap(), &"c".parse().unwrap(), &"Bearer t".parse().unwrap())
        );
        assert!(!headers.contains_key("x-b") && !headers.contains_key("x-token"));
    }

    #[test]
    fn what_a_request_cannot_hold_is_refused_and_not_cut() {
        for value in ["a\r\nx: y", "a\0", " a", "a\t"] {
            assert!(made("", &message(&[("x-a", value)])).is_err(), "{value:?}");
        }
        let kind = Incoming { content_type: Some("a\n".into()), ..Incoming::default() };
        assert!(made("", &kind).is_err());
        let token = message(&[("x-token", "a\nb")]);
        assert!(made("token = \"x-token\"", &token).is_err());
    }
}
