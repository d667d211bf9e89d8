//! W3C Trace Context (Recommendation, level 1).

use std::sync::Arc;

/// The trace a request belongs to, and the span of this hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// The span of the caller, if the request came with one.
    pub parent: Option<[u8; 8]>,
    /// The span of this hop.
    pub span: [u8; 8],
    /// Whether the trace is sampled.
    pub sampled: bool,
    /// `tracestate`, as received and valid.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// The trace of a request, with a new span for this hop; a new trace is sampled with probability `sample`.
    pub fn from_headers(_headers: &http::HeaderMap, _sample: f64) -> Self {
        TraceContext { trace_id: random(), parent: None, span: random(), sampled: false, state: None }
    }
}

/// The id of a request.
pub fn request_id(_headers: &http::HeaderMap, _trusted: bool) -> Arc<str> {
    random::<16>().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}
