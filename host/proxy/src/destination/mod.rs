//! Where requests end: each kind of destination is a file and a row of [`DESTINATIONS`].
//!
//! A destination is asked behind all stages on the way down, and the stages on the way up see its response. What
//! wraps a destination, for example to keep its responses, is a [`Destination`] itself, so wrappers nest.
//!
//! All files have one shape: what the destination is, its `ROW`, the destination, tests.

mod redirect;
mod respond;
pub(crate) mod split;
#[cfg(test)]
pub(crate) mod tests;
mod upstream;

use std::sync::Arc;

use http::{Response, StatusCode};
use witgate_config::model::Action;

use crate::body::Body;
use crate::facts::Facts;
use crate::fault::Fault;
use crate::pipeline::plugin::MaybeReady;
use crate::router::Pattern;
use crate::upstream::Upstreams;

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

/// A row of the table: one kind of destination.
pub struct DestinationKind {
    /// The key of a route in the configuration that names it.
    pub kind: &'static str,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// Makes the destination of a route; none if the action of the route is of another kind.
    pub(crate) build: fn(&BuildInputs<'_>) -> Option<Built>,
}

/// What a destination is made of.
pub(crate) struct BuildInputs<'a> {
    /// The action of its route.
    pub(crate) action: &'a Action,
    /// The path of its route, to which templates refer.
    pub(crate) pattern: &'a Pattern,
    /// The upstreams of the snapshot that is being built.
    pub(crate) upstreams: &'a Arc<Upstreams>,
}

/// What is wrong with an action: the key under the route, a message and a hint.
pub(crate) type Mistake = (&'static str, String, String);

/// A destination, or what is wrong with the action of its route.
pub(crate) type Built = Result<Arc<dyn Destination>, Mistake>;

/// Every kind of destination.
pub const DESTINATIONS: &[DestinationKind] = &[upstream::ROW, redirect::ROW, respond::ROW];

/// Makes the destination of a route.
///
/// # Errors
/// The first thing that is wrong with the action.
pub(crate) fn build(inputs: &BuildInputs<'_>) -> Built {
    let built = DESTINATIONS.iter().find_map(|row| (row.build)(inputs));
    built.expect("every action has a row in the table")
}

fn shared(made: Result<impl Destination + 'static, Mistake>) -> Built {
    made.map(|destination| Arc::new(destination) as Arc<dyn Destination>)
}

fn status(key: &'static str, status: u16) -> Result<StatusCode, Mistake> {
    StatusCode::from_u16(status)
        .map_err(|_| (key, format!("{status} is not a status"), "statuses are 200 to 599".into()))
}
