//! What a route does with a request: answers, redirects, or forwards.

use std::sync::Arc;

use http::Response;
use http::uri::PathAndQuery;

use crate::body::Body;
use crate::fault::Fault;
use crate::head::RequestHead;
use crate::router::Route;

/// Where a forwarding route sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTarget {
    /// The upstream, chosen by weight.
    pub upstream: Arc<str>,
    /// What the upstream is to see as path and query; none: it stays as it is.
    pub target: Option<PathAndQuery>,
}

impl Route {
    /// The answer of a route that redirects or answers by itself; none for one that forwards.
    pub fn local_answer(&self, _head: &RequestHead) -> Option<Response<Body>> {
        todo!("router")
    }

    /// Where a forwarding route sends this request; none for one that answers by itself. Each call takes a turn in the
    /// split over upstreams, so call it once a request.
    ///
    /// # Errors
    /// `BadPath` if the rewritten path cannot be one.
    pub fn forward_target(&self, _head: &RequestHead) -> Result<Option<ForwardTarget>, Fault> {
        todo!("router")
    }
}
