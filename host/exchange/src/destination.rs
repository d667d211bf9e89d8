//! What a destination is to the walk.

use http::Response;

use crate::body::Body;
use crate::contracts::MaybeReady;
use crate::facts::Facts;
use crate::fault::Fault;

/// What makes the response to a request that has passed every stage on the way down. Shared by all cores. It keeps no
/// state of a request; that is part of the facts. A destination that wraps another passes [`Destination::choose`] and
/// [`Destination::reads_body`] on to it.
pub trait Destination: Send + Sync {
    /// Chooses the upstream, and the path and query for it, and notes them in the facts. Called once for each request,
    /// after rate limiting. Returns whether there is anything to choose: if so, the plugins of the routing contract are
    /// called next, and may choose otherwise.
    ///
    /// # Errors
    /// `BadPath` if the rewritten path is not valid.
    fn choose(&self, _facts: &mut Facts) -> Result<bool, Fault> {
        Ok(false)
    }

    /// Whether it reads the bodies of requests. If not, plugins do not get them either.
    fn reads_body(&self) -> bool {
        true
    }

    /// Serves the request. The body of the response streams after its head. A destination that does not wait returns
    /// [`MaybeReady::over`], which allocates nothing. A destination that waits may be dropped at any await, because the
    /// client has left.
    ///
    /// # Errors
    /// The fault that prevents a response. It becomes the response.
    fn serve<'a>(&'a self, facts: &'a mut Facts, body: Body)
    -> MaybeReady<'a, Result<Response<Body>, Fault>>;
}
