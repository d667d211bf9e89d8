//! What gRPC, gRPC-Web and Connect have in common: status codes, their names, and how they relate to statuses of HTTP.

pub mod details;
pub mod message;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// The header or trailer with the status of a call.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The header or trailer with the message that goes with the status, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The header or trailer with a `google.rpc.Status`, in base64.
pub const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// The header with the time that the caller allows for a call.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The header that names the compression of messages.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The header that names the compressions that the sender can undo.
pub const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The number of status codes that have a name.
pub const CODES: usize = NAMES.len();

/// The names of the status codes in the order of their numbers ("Status codes and their use in gRPC").
const NAMES: [&str; 17] = [
    "ok",
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// A status code of gRPC. Numbers without a name are `UNKNOWN`, as gRPC's own libraries take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(u8);

#[allow(missing_docs, reason = "the names are those of gRPC")]
impl Code {
    pub const OK: Code = Code(0);
    pub const CANCELLED: Code = Code(1);
    pub const UNKNOWN: Code = Code(2);
    pub const INVALID_ARGUMENT: Code = Code(3);
    pub const DEADLINE_EXCEEDED: Code = Code(4);
    pub const NOT_FOUND: Code = Code(5);
    pub const PERMISSION_DENIED: Code = Code(7);
    pub const RESOURCE_EXHAUSTED: Code = Code(8);
    pub const FAILED_PRECONDITION: Code = Code(9);
    pub const ABORTED: Code = Code(10);
    pub const OUT_OF_RANGE: Code = Code(11);
    pub const UNIMPLEMENTED: Code = Code(12);
    pub const INTERNAL: Code = Code(13);
    pub const UNAVAILABLE: Code = Code(14);
    pub const UNAUTHENTICATED: Code = Code(16);
}

impl Code {
    /// The code with this number.
    pub fn of(number: u32) -> Self {
        match u8::try_from(number) {
            Ok(code) if usize::from(code) < CODES => Code(code),
            _ => Code::UNKNOWN,
        }
    }

    /// The code in the value of `grpc-status`; a value that is no number is `UNKNOWN`.
    pub fn read(value: &HeaderValue) -> Self {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map_or(Code::UNKNOWN, Code::of)
    }

    /// The code among headers or trailers, if there is one.
    pub fn among(fields: &HeaderMap) -> Option<Self> {
        fields.get(GRPC_STATUS).map(Code::read)
    }

    /// What a gRPC client makes of an answer of HTTP that has no gRPC status ("HTTP to gRPC Status Code Mapping").
    pub fn of_answer(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Code::INTERNAL,
            401 => Code::UNAUTHENTICATED,
            403 => Code::PERMISSION_DENIED,
            404 => Code::UNIMPLEMENTED,
            429 | 502..=504 => Code::UNAVAILABLE,
            _ => Code::UNKNOWN,
        }
    }

    /// The code with which the gateway tells a gRPC caller of a refusal that has this status of HTTP.
    pub fn of_refusal(status: StatusCode) -> Self {
        match status.as_u16() {
            401 | 407 => Code::UNAUTHENTICATED,
            403 | 451 => Code::PERMISSION_DENIED,
            404 | 405 | 415 | 501 => Code::UNIMPLEMENTED,
            408 | 504 => Code::DEADLINE_EXCEEDED,
            409 => Code::ABORTED,
            412 | 428 => Code::FAILED_PRECONDITION,
            413 | 414 | 429 | 431 => Code::RESOURCE_EXHAUSTED,
            416 => Code::OUT_OF_RANGE,
            499 => Code::CANCELLED,
            502 | 503 => Code::UNAVAILABLE,
            500 => Code::INTERNAL,
            400..=499 => Code::INVALID_ARGUMENT,
            _ => Code::UNKNOWN,
        }
    }

    /// Whether it is an error of the server and not of its caller: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`,
    /// `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS` (OpenTelemetry's semantic conventions for gRPC server spans).
    pub fn is_server_error(self) -> bool {
        matches!(self.0, 2 | 4 | 12..=15)
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name in lower case with underscores, which is how Connect writes it.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The status of HTTP that stands for the code, the same in `google.rpc.Code` and in the Connect protocol ("Error Codes").
    pub fn http_status(self) -> StatusCode {
        let status = match self.0 {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        };
        StatusCode::from_u16(status).expect("every row of the table has a valid status")
    }
}

/// Whether a content type is that of gRPC itself: `application/grpc`, with or without a message format (`+proto`) or
/// parameters. gRPC-Web, whose content types begin alike, is another protocol.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    has_type(headers, "application/grpc")
}

/// Whether the content type has this name, with or without a message format (`+proto`) or parameters.
pub(crate) fn has_type(headers: &HeaderMap, name: &str) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.split_at_checked(name.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(name.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// The characters that `grpc-message` has percent-encoded: all but the visible ones of ASCII and the space, and the percent
/// sign itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The most bytes of a message in a header, before encoding.
const MESSAGE: usize = 1024;

/// The value of `grpc-message`. A message is cut off after 1 KiB, so that it fits into every client's header limit.
pub fn encode_message(message: &str) -> HeaderValue {
    let end = (0..=MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    let encoded: Cow<'_, str> = utf8_percent_encode(&message[..end.unwrap_or(0)], ENCODED).into();
    HeaderValue::from_str(&encoded).expect("percent-encoded text is visible ASCII")
}

/// The message in a value of `grpc-message`. What is no valid UTF-8 is replaced, never refused ("Percent-Encoded" of gRPC
/// over HTTP/2).
pub fn decode_message(value: &HeaderValue) -> String {
    percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned()
}

/// The value of `grpc-timeout` for one of `connect-timeout-ms`, which has at most ten digits; `None` if it is no time limit.
pub fn connect_timeout(value: &HeaderValue) -> Option<HeaderValue> {
    let digits = value.to_str().ok()?;
    if !(1..=10).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // `grpc-timeout` has at most eight digits.
    let text = match digits.len() <= 8 {
        true => format!("{digits}m"),
        false => format!("{}S", &digits[..digits.len() - 3]),
    };
    HeaderValue::from_str(&text).ok()
}

/// What is known of a gRPC call that the gateway makes for a caller who speaks another protocol: the record learns its
/// method and status from here. Clones are the same call.
#[derive(Debug, Clone, Default)]
pub struct BridgedCall(Rc<BridgedCallState>);

#[derive(Debug, Default)]
struct BridgedCallState {
    method: RefCell<Option<Arc<str>>>,
    status: Cell<Option<Code>>,
}

impl BridgedCall {
    /// A call of this method (`package.Service/Method`).
    pub fn new(method: Arc<str>) -> Self {
        let call = BridgedCall::default();
        call.0.method.replace(Some(method));
        call
    }

    /// Notes the status.
    pub fn end(&self, status: Code) {
        self.0.status.set(Some(status));
    }

    /// The status, once it is known.
    pub fn status(&self) -> Option<Code> {
        self.0.status.get()
    }

    /// The method, `package.Service/Method`.
    pub fn method(&self) -> Option<Arc<str>> {
        self.0.method.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded_and_bad_ones_are_read() {
        for (message, encoded) in
            [("plain text", "plain text"), ("100 %", "100 %25"), ("ü\n", "%C3%BC%0A"), ("", "")]
        {
            let value = encode_message(message);
            assert_eq!(value, encoded);
            assert_eq!(decode_message(&value), message);
        }
        assert_eq!(decode_message(&HeaderValue::from_static("%FF%zz%")), "\u{fffd}%zz%");
        assert_eq!(encode_message(&"ü".repeat(3000)).len(), 6 * MESSAGE / 2, "cut between characters");
    }

    #[test]
    fn timeouts_of_ten_digits_are_rounded_down_and_others_are_none() {
        let read = |text: &'static str| connect_timeout(&HeaderValue::from_static(text));
        for (text, value) in [("0", "0m"), ("99999999", "99999999m"), ("9999999999", "9999999S")] {
            assert_eq!(read(text), Some(HeaderValue::from_static(value)));
        }
        for wrong in ["", "1s", "-1", "10000000000", "1.5"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn codes_are_read_strictly_and_what_is_no_code_is_unknown() {
        for (text, code) in
            [("0", 0), ("14", 14), ("016", 16), ("17", 2), ("-1", 2), ("", 2), ("4294967296", 2)]
        {
            assert_eq!(Code::read(&HeaderValue::from_static(text)).number(), code, "{text:?}");
        }
        assert_eq!(Code::of(6).name(), "already_exists");
        assert_eq!(Code::of(16).http_status(), 401);
    }
}
