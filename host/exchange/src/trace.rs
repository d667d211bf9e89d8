//! W3C Trace Context (Recommendation, level 1), and request ids.

use std::any::Any;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

/// `traceparent`, section 3.2.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`, section 3.3.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// `baggage` (W3C Baggage): what callers propagate beside the trace. It is never changed.
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// The header with the request id: from the client, to the client, and upstream.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest `tracestate`, in bytes, that is forwarded (section 3.3.1.5 asks for at least 512).
const STATE_BYTES: usize = 1024;
/// The most list members of a `tracestate` (section 3.3.1.1).
const STATE_MEMBERS: usize = 32;
/// The longest request id, in bytes, that is accepted.
const REQUEST_ID_BYTES: usize = 128;

/// The id of a span (section 3.2.2.4): not all zero.
pub type SpanId = [u8; 8];

/// Where the spans of a sampled trace go when they have ended. Telemetry owns the one type behind it, and finds it
/// again by its type.
pub trait SpanSink: Any + fmt::Debug + Send + Sync {}

/// The trace of a request, and the span of this hop. Exists only if the gateway exports spans: otherwise it takes
/// no part in traces, and forwards the headers as received.
#[derive(Debug, Clone)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// The span of the caller, if the request named one.
    pub parent: Option<SpanId>,
    /// The span of this hop.
    pub span: SpanId,
    /// Whether the trace is sampled.
    pub sampled: bool,
    /// `tracestate`, as received and valid.
    pub state: Option<Arc<str>>,
    /// The exporter of its spans. `Some` for sampled traces, except in tests.
    exporter: Option<Arc<dyn SpanSink>>,
    /// Converts the times of its spans to times of day. `Some` if `exporter` is.
    clock: Option<Clock>,
}

/// The same moment on the monotonic clock and as a time of day. All spans of a request use the same pair;
/// otherwise a child could seem to begin before its parent.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The monotonic time.
    pub moment: Instant,
    /// The time of day at that moment.
    pub time_of_day: SystemTime,
}

impl Clock {
    fn now() -> Self {
        Clock { moment: Instant::now(), time_of_day: SystemTime::now() }
    }

    /// A moment in nanoseconds since 1970, as in OTLP.
    pub fn nanoseconds(&self, moment: Instant) -> u64 {
        let time_of_day = match moment.checked_duration_since(self.moment) {
            Some(later) => self.time_of_day + later,
            None => self.time_of_day - self.moment.duration_since(moment),
        };
        let since_1970 = time_of_day.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl TraceContext {
    /// The trace of a request, with a new span for this hop. A `traceparent` that is missing, repeated or invalid
    /// starts a new trace, which is sampled with probability `sample` (0 to 1); the sampled flag of a valid one is
    /// honoured.
    pub fn from_headers(headers: &HeaderMap, sample: f64) -> Self {
        let Some((trace_id, parent, sampled)) = received(headers).and_then(parse_parent) else {
            return Self::start(sample);
        };
        let state = parse_state(headers);
        TraceContext {
            trace_id,
            parent: Some(parent),
            span: span_id(),
            sampled,
            state,
            exporter: None,
            clock: None,
        }
    }

    /// The same trace; its spans go to this exporter if it is sampled.
    pub fn exported_by(self, exporter: &Arc<impl SpanSink>) -> Self {
        let exporter = self.sampled.then(|| Arc::clone(exporter) as Arc<dyn SpanSink>);
        TraceContext { exporter, clock: self.sampled.then(Clock::now), ..self }
    }

    /// The exporter of its spans; `None` if they are not exported.
    pub fn exporter(&self) -> Option<&Arc<dyn SpanSink>> {
        self.exporter.as_ref()
    }

    /// Converts the times of its spans to times of day; `None` if they are not exported.
    pub fn clock(&self) -> Option<Clock> {
        self.clock
    }

    /// Starts a new trace.
    pub fn start(sample: f64) -> Self {
        TraceContext {
            trace_id: fastrand::u128(1..).to_be_bytes(),
            parent: None,
            span: span_id(),
            sampled: sample > 0.0 && fastrand::f64() < sample,
            state: None,
            exporter: None,
            clock: None,
        }
    }

    /// `traceparent` with this span as the parent: only digits, letters a to f and dashes.
    pub fn traceparent(&self, span: &SpanId) -> [u8; 55] {
        let mut text = [0_u8; 55];
        text[..3].copy_from_slice(b"00-");
        hexadecimal(&self.trace_id, &mut text[3..35]);
        text[35] = b'-';
        hexadecimal(span, &mut text[36..52]);
        text[52..].copy_from_slice(if self.sampled { b"-01" } else { b"-00" });
        text
    }

    /// `tracestate` for the next hop: as received.
    pub fn tracestate(&self) -> Option<HeaderValue> {
        self.state.as_ref().and_then(|state| HeaderValue::from_str(state).ok())
    }

    /// Writes both headers, with this span as the parent, over those of a request.
    pub fn inject(&self, span: &SpanId, headers: &mut HeaderMap) {
        let parent = HeaderValue::from_bytes(&self.traceparent(span));
        headers.insert(TRACEPARENT, parent.expect("digits and dashes are visible characters"));
        match self.tracestate() {
            Some(state) => drop(headers.insert(TRACESTATE, state)),
            None => drop(headers.remove(TRACESTATE)),
        }
    }

    /// The trace id as 32 hexadecimal digits.
    pub fn trace_id_text(&self) -> String {
        hexadecimal_text(&self.trace_id)
    }
}

/// The `traceparent` of a request that belongs to no trace: a new trace that is not sampled. For requests of the
/// gateway's own, such as health checks, which would otherwise start a trace in each service that they reach.
pub fn untraced() -> HeaderValue {
    let trace = TraceContext::start(0.0);
    HeaderValue::from_bytes(&trace.traceparent(&trace.span))
        .expect("digits and dashes are visible characters")
}

/// The trace id that a request came with; `None` without exactly one valid `traceparent`.
pub fn received_id(headers: &HeaderMap) -> Option<String> {
    let (trace_id, ..) = parse_parent(received(headers)?)?;
    Some(hexadecimal_text(&trace_id))
}

/// The `traceparent` that a request came with, valid or not; `None` without exactly one.
pub fn received(headers: &HeaderMap) -> Option<&str> {
    single(headers, &TRACEPARENT)
}

/// The id of a request: the received one, if `trusted` (a trusted proxy sent it) and if it consists of 1 to 128
/// letters, digits and `-_.:/+=@`; otherwise a new one of 32 hexadecimal digits.
pub fn request_id(headers: &HeaderMap, trusted: bool) -> Arc<str> {
    request_id_in(headers, &REQUEST_ID, trusted)
}

/// As [`request_id`], from another header.
pub fn request_id_in(headers: &HeaderMap, name: &HeaderName, trusted: bool) -> Arc<str> {
    if trusted && let Some(id) = single(headers, name).filter(|id| is_request_id(id)) {
        return Arc::from(id);
    }
    let mut text = [0_u8; 32];
    hexadecimal(&fastrand::u128(..).to_be_bytes(), &mut text);
    Arc::from(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
}

/// Whether a received id is allowed in logs and headers.
pub fn is_request_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
    (1..=REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(allowed)
}

/// The value of a header that occurs exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Parses `traceparent` (section 3.2.2). Versions above 00 may be longer: what follows the flags is ignored
/// (section 4.3).
fn parse_parent(text: &str) -> Option<([u8; 16], SpanId, bool)> {
    let bytes = text.as_bytes();
    if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
        return None;
    }
    let version = parse_hexadecimal::<1>(&bytes[..2])?[0];
    let complete = match version {
        0 => bytes.len() == 55,
        0xff => false,
        _ => bytes.len() == 55 || bytes[55] == b'-',
    };
    let trace_id = parse_hexadecimal::<16>(&bytes[3..35])?;
    let parent = parse_hexadecimal::<8>(&bytes[36..52])?;
    let flags = parse_hexadecimal::<1>(&bytes[53..55])?[0];
    let valid = complete && trace_id != [0; 16] && parent != [0; 8];
    valid.then_some((trace_id, parent, flags & 1 == 1))
}

/// Parses lower-case hexadecimal digits only, as section 3.2.2 requires.
fn parse_hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Joins the `tracestate` fields, which are one list (section 3.3.1). A list that is too long or malformed is
/// dropped, as section 3.3.1 allows: the trace goes on without it.
fn parse_state(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut state = String::new();
    for value in headers.get_all(TRACESTATE) {
        for member in value.to_str().ok()?.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            let (key, value) = member.split_once('=')?;
            if !is_state_key(key) || !is_state_value(value) {
                return None;
            }
            if !state.is_empty() {
                state.push(',');
            }
            let _ = write!(state, "{key}={value}");
        }
    }
    let members = state.split(',').count();
    (!state.is_empty() && state.len() <= STATE_BYTES && members <= STATE_MEMBERS).then(|| Arc::from(state))
}

/// Whether a key is valid (section 3.3.1.3.1, without the finer rules for tenants).
fn is_state_key(key: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: u8| begins(byte) || b"_-*/@".contains(&byte);
    key.len() <= 256 && key.bytes().next().is_some_and(begins) && key.bytes().all(allowed)
}

/// Whether a value is valid (section 3.3.1.3.2).
fn is_state_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && byte != b'=')
}

/// A new span id, not all zero.
pub fn span_id() -> SpanId {
    fastrand::u64(1..).to_be_bytes()
}

/// For every byte its two lower-case hexadecimal digits.
const DIGITS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Writes two lower-case digits for each byte; `text` is twice as long as `bytes`.
#[inline(never)]
fn hexadecimal(bytes: &[u8], text: &mut [u8]) {
    let (pairs, _) = text.as_chunks_mut();
    for (byte, pair) in bytes.iter().zip(pairs) {
        *pair = DIGITS[usize::from(*byte)];
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hexadecimal_text(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2];
    hexadecimal(bytes, &mut text);
    String::from_utf8(text).expect("hexadecimal digits are ASCII")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a test's header value"));
        }
        headers
    }

    #[test]
    fn a_valid_parent_is_continued_with_a_new_span() {
        let context =
            TraceContext::from_headers(&headers(&[("traceparent", VALID), ("tracestate", "a=1, b=2")]), 0.0);
        assert_eq!(context.trace_id_text(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            context.parent.map(|parent| hexadecimal_text(&parent)).as_deref(),
            Some("b7ad6b7169203331")
        );
        assert!(context.sampled);
        assert_ne!(Some(context.span), context.parent);
        assert_eq!(context.state.as_deref(), Some("a=1,b=2"));
        let sent = context.traceparent(&[0xab; 8]);
        assert_eq!(&sent, b"00-0af7651916cd43dd8448eb211c80319c-abababababababab-01");
    }

    #[test]
    fn invalid_parents_start_a_new_trace() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
        ] {
            let context =
                TraceContext::from_headers(&headers(&[("traceparent", text), ("tracestate", "a=1")]), 0.0);
            assert_eq!(context.parent, None, "{text}");
            assert_eq!(context.state, None, "{text}");
            assert!(!context.sampled, "{text}");
        }
        let twice = headers(&[("traceparent", VALID), ("traceparent", VALID)]);
        assert_eq!(TraceContext::from_headers(&twice, 0.0).parent, None);
    }

    #[test]
    fn a_later_version_may_be_longer() {
        let text = format!("cc{}-what-the-future-brings", &VALID[2..]);
        assert!(TraceContext::from_headers(&headers(&[("traceparent", &text)]), 0.0).parent.is_some());
    }

    #[test]
    fn sampling_is_decided_for_new_traces_only() {
        assert!(TraceContext::start(1.0).sampled);
        assert!(!TraceContext::start(0.0).sampled);
        let unsampled = VALID.replace("-01", "-00");
        assert!(!TraceContext::from_headers(&headers(&[("traceparent", &unsampled)]), 1.0).sampled);
    }

    #[test]
    fn a_malformed_state_is_dropped_and_the_trace_goes_on() {
        for state in ["A=1", "a", "a=b=c", "=1"] {
            let context =
                TraceContext::from_headers(&headers(&[("traceparent", VALID), ("tracestate", state)]), 0.0);
            assert_eq!(context.state, None, "{state}");
            assert!(context.parent.is_some(), "{state}");
        }
    }

    #[test]
    fn request_ids_are_taken_over_from_trusted_proxies_only() {
        let given = headers(&[("x-request-id", "abc-123")]);
        assert_eq!(&*request_id(&given, true), "abc-123");
        assert_eq!(request_id(&given, false).len(), 32);
        assert_ne!(request_id(&given, false), request_id(&given, false));
        let hostile = headers(&[("x-request-id", "\"},{\"a\":\"")]);
        assert_eq!(request_id(&hostile, true).len(), 32);
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_is_read(trace_id in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool) {
            prop_assume!(trace_id != [0; 16] && span != [0; 8]);
            let context = TraceContext { trace_id, sampled, ..TraceContext::start(0.0) };
            let sent = context.traceparent(&span);
            let read = parse_parent(std::str::from_utf8(&sent).expect("ASCII"));
            prop_assert_eq!(read, Some((trace_id, span, sampled)));
        }

        #[test]
        fn no_header_is_trusted_to_be_well_formed(parent in "\\PC{0,80}", state in "\\PC{0,80}") {
            let mut headers = HeaderMap::new();
            for (name, value) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    headers.insert(name, value);
                }
            }
            let context = TraceContext::from_headers(&headers, 0.5);
            prop_assert_ne!(context.trace_id, [0; 16]);
            prop_assert_ne!(context.span, [0; 8]);
            let mut sent = HeaderMap::new();
            context.inject(&context.span, &mut sent);
            prop_assert!(sent.contains_key(TRACEPARENT));
        }
    }
}
