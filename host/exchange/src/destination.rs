//! The interface of a destination.

use std::sync::Arc;

use http::Response;

use crate::body::Body;
use crate::contracts::MaybeReady;
use crate::facts::Facts;
use crate::fault::Fault;

/// Wraps the destination of a route that forwards, for example to translate what it gets. It is made when a configuration is
/// loaded, so that building the routes anew reads no file.
pub trait Wrapper: Send + Sync {
    /// The wrapped destination.
    fn wrap(&self, inner: Arc<dyn Destination>) -> Arc<dyn Destination>;
}

/// Makes the response to a request that has passed every stage on the way down. A destination is shared by all
/// cores and keeps no state of a request: that is part of the facts. A destination that wraps another one passes
/// [`Destination::choose`] and [`Destination::reads_body`] on to it.
pub trait Destination: Send + Sync {
    /// Chooses the upstream, and the path and query for it, and notes them in the facts. Called once for each
    /// request, after rate limiting. Returns whether there was a choice: if so, the plugins of the routing
    /// contract are called next and may change it.
    ///
    /// # Errors
    /// `BadPath` if the rewritten path is not valid.
    fn choose(&self, _facts: &mut Facts) -> Result<bool, Fault> {
        Ok(false)
    }

    /// Whether the destination reads the bodies of requests. If not, plugins do not get them either.
    fn reads_body(&self) -> bool {
        true
    }

    /// Makes the response to the request. The body of the response streams after its head. A destination that does
    /// not wait returns [`MaybeReady::over`], which allocates nothing. A destination that waits may be dropped at
    /// any await, because the client may leave.
    ///
    /// # Errors
    /// The fault that prevents a response. It is turned into the response.
    fn serve<'a>(&'a self, facts: &'a mut Facts, body: Body)
    -> MaybeReady<'a, Result<Response<Body>, Fault>>;
}
