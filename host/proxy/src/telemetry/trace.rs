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
