//! Upstreams: endpoints, breakers, limits, and the pool of connections of each core.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::body::Body;
use crate::fault::Fault;
use crate::pipeline::exchange::Exchange;
use crate::snapshot::Snapshot;

/// A named upstream. What must not depend on the number of cores (limits, breakers) is in shared atomics; pooled
/// connections belong to the core that made them.
pub struct Upstream {}

/// Sends the exchange's request to its upstream and returns the head of its response with the body streaming behind.
/// An endpoint that answers 101 leaves its `OnUpgrade` in the response's extensions.
///
/// What the upstream sees: the exchange's method, `upstream_target` or `target` in origin form, end-to-end headers,
/// `Host` (the client's or the endpoint's), `Via`, `traceparent`, `tracestate`, the request id, and the framing of
/// `body`. Headers of the gateway's own other than these are in the head already.
///
/// # Errors
/// Any fault with blame `Upstream`, `RequestTimeout`, or `ClientGone`.
pub async fn forward(_exchange: &mut Exchange, _body: Body) -> Result<Response<Body>, Fault> {
    todo!("upstream")
}

/// One outbound exchange for a plugin's `fetch`: same pools, breakers, limits, TLS and trace as forwarded requests.
/// The body is collected, at most `limit` bytes.
///
/// # Errors
/// As [`forward`]; a response over the limit is `UpstreamProtocol` with the detail `response too large`.
pub async fn fetch(
    _snapshot: &Arc<Snapshot>,
    _upstream: &str,
    _request: Request<Bytes>,
    _timeout: Option<Duration>,
    _limit: usize,
) -> Result<Response<Bytes>, Fault> {
    todo!("upstream")
}
