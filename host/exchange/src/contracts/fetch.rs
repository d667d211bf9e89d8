//! Outbound requests on behalf of a call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};

use crate::fault::Fault;
use crate::trace::TraceContext;

/// Makes outbound requests on behalf of calls, by the connections of the core that makes them.
pub trait Fetch {
    /// Sends a request to the upstream of this name and collects the response.
    ///
    /// The path of the request's URI is used, its authority is not: `Host` is the endpoint's. With a `trace`, each attempt
    /// is a span of it; without, the headers are sent as they are. `timeout` bounds the whole exchange; `limit` bounds the
    /// body of the response, in bytes.
    ///
    /// # Errors
    /// As of a forwarded request; a response over the limit is `UpstreamProtocol` with the detail `response too large`; an
    /// unknown upstream is `NoEndpoint`.
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
