//! Where requests end: each kind of destination is a file and a row of [`DESTINATIONS`].
//!
//! A destination is called behind all stages on the way down, and the stages on the way up see its response. What
//! wraps a destination, for example to keep its responses, is a [`Destination`] itself, so wrappers can be nested.
//!
//! All files have one shape: what the destination is, its `ROW`, the destination, tests.

mod bridge;
pub(crate) mod publish;
mod redirect;
mod respond;
pub(crate) mod split;
#[cfg(test)]
pub(crate) mod tests;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, StatusCode};
use witgate_cache::Cache;
use witgate_config::model::{Action, RouteCache};
use witgate_exchange::contracts::broker::Broker;
use witgate_exchange::destination::{Destination, Wrapper};
use witgate_upstream::Upstreams;

use crate::router::Pattern;

/// A row of the table: one kind of destination.
pub struct DestinationKind {
    /// The key of a route in the configuration that names it.
    pub kind: &'static str,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// Makes the destination of a route; `None` if the action of the route is of another kind.
    pub(crate) build: fn(&BuildInputs<'_>) -> Option<Built>,
}

/// The inputs of which a destination is made.
pub(crate) struct BuildInputs<'a> {
    /// The action of its route.
    pub(crate) action: &'a Action,
    /// The path of its route, to which templates refer.
    pub(crate) pattern: &'a Pattern,
    /// The upstreams of the snapshot that is being built.
    pub(crate) upstreams: &'a Arc<Upstreams>,
    /// The brokers of the snapshot that is being built, by name.
    pub(crate) brokers: &'a Brokers,
    /// Whether its route merges runs of slashes.
    pub(crate) merge_slashes: bool,
    /// What wraps it.
    pub(crate) around: Around<'a>,
    /// The settings of the cache in front of it; `None`: its responses are not stored.
    pub(crate) cache: Option<&'a RouteCache>,
}

/// What wraps the destination of a route. The cache is outermost: it stores what the client gets.
#[derive(Clone, Copy, Default)]
pub(crate) struct Around<'a> {
    /// What translates its requests and responses.
    pub(crate) wrapper: Option<&'a Arc<dyn Wrapper>>,
    /// The cache of the snapshot; `None`: no route has one.
    pub(crate) cache: Option<CacheInService<'a>>,
}

/// The cache of a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct CacheInService<'a> {
    /// The stored responses.
    pub(crate) cache: &'a Arc<Cache>,
    /// The headers that tell upstreams about the identity of callers.
    pub(crate) identity_headers: &'a [HeaderName],
}

/// The brokers of a snapshot, by name.
pub(crate) type Brokers = BTreeMap<String, Arc<dyn Broker>>;

/// A mistake in the action of a route: the key under the route, a message and a hint.
pub(crate) type Mistake = (&'static str, String, String);

/// A destination, or what is wrong with the action of its route.
pub(crate) type Built = Result<Arc<dyn Destination>, Mistake>;

/// Every kind of destination.
pub const DESTINATIONS: &[DestinationKind] = &[upstream::ROW, redirect::ROW, respond::ROW, publish::ROW];

/// Makes the destination of a route.
///
/// # Errors
/// The first mistake in the action.
pub(crate) fn build(inputs: &BuildInputs<'_>) -> Built {
    let built = DESTINATIONS.iter().find_map(|row| (row.build)(inputs));
    let built = built.expect("every action has a row in the table")?;
    let translated = match inputs.around.wrapper {
        Some(wrapper) => wrapper.wrap(built),
        None => built,
    };
    Ok(match inputs.around.cache.zip(inputs.cache) {
        Some((service, settings)) => service.cache.wrap(translated, settings, service.identity_headers),
        None => translated,
    })
}

fn shared(made: Result<impl Destination + 'static, Mistake>) -> Built {
    made.map(|destination| Arc::new(destination) as Arc<dyn Destination>)
}

fn status(key: &'static str, status: u16) -> Result<StatusCode, Mistake> {
    StatusCode::from_u16(status)
        .map_err(|_| (key, format!("{status} is not a status"), "statuses are 200 to 599".into()))
}
