//! Outbound requests on behalf of a call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};

use crate::fault::Fault;
use crate::trace::TraceContext;

/// Makes outbound requests on behalf of calls, over the connections of the core that makes them.
pub trait Fetch {
    /// Sends a request to the upstream of this name and collects the response.
    ///
    /// The path of the request's URI is used. Its authority is not: `Host` is that of the endpoint. With a
    /// `trace`, each attempt is a span of it; without one, the headers are sent as they are. `timeout` limits the
    /// whole exchange. `limit` is the most bytes that the body of the response may have.
    ///
    /// # Errors
    /// The faults of a forwarded request. A response over the limit is `UpstreamProtocol` with the detail
    /// `response too large`, and an unknown upstream is `NoEndpoint`.
    fn fetch<'a>(
        &'a self,
        upstream: &'a str,
        request: Request<Bytes>,
        trace: Option<&'a TraceContext>,
        timeout: Option<Duration>,
        limit: usize,
    ) -> LocalBoxFuture<'a, Result<Response<Bytes>, Fault>>;
}

impl<F: Fetch + ?Sized> Fetch for Arc<F> {
    fn fetch<'a>(
        &'a self,
        upstream: &'a str,
        request: Request<Bytes>,
        trace: Option<&'a TraceContext>,
        timeout: Option<Duration>,
        limit: usize,
    ) -> LocalBoxFuture<'a, Result<Response<Bytes>, Fault>> {
        (**self).fetch(upstream, request, trace, timeout, limit)
    }
}
