//! What a destination is to the walk.

use http::Response;

use crate::body::Body;
use crate::contracts::MaybeReady;
use crate::facts::Facts;
use crate::fault::Fault;

/// What gives the response to a request that has passed every stage on the way down. Shared by all cores; it keeps no
/// state of a request: that lives in the facts.
pub trait Destination: Send + Sync {
    /// Chooses where the request goes, as far as the destination leaves that open: notes the upstream, and the path and
    /// query that the upstream is to see, in the facts. Called once for each request, after rate limiting. True: the
    /// plugins of the routing contract are asked then, and what they say counts more. False: there is nothing to choose.
    ///
    /// # Errors
    /// `BadPath` if the path that the upstream is to see cannot be one.
    fn choose(&self, _facts: &mut Facts) -> Result<bool, Fault> {
        Ok(false)
    }

    /// Whether it reads the bodies of requests. If not, they are not shown to plugins either.
    fn reads_body(&self) -> bool {
        true
    }

    /// Serves the request: its response, with the body streaming behind the head. A destination that has nothing to wait
    /// for hands out [`MaybeReady::over`], which allocates nothing; one that waits may be dropped at any await, because
    /// the client went away.
    ///
    /// # Errors
    /// What keeps it from responding. The fault becomes the response.
    fn serve<'a>(&'a self, facts: &'a mut Facts, body: Body)
    -> MaybeReady<'a, Result<Response<Body>, Fault>>;
}
