//! The routing contract: where a request goes.
//!
//! The choice of the route's destination comes first. Then every binding is called in the configured order, and a
//! later result replaces an earlier one field by field. Timeouts can only become shorter. If the destination has
//! no choice to make, because the gateway responds by itself, the bindings are not called.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use witgate_exchange::contracts::{Binding, Call, Destination, Function};
use witgate_exchange::credentials::Credentials;
use witgate_exchange::fault::Fault;

use crate::pipeline::call;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::remembered::{Question, Rememberable};
use crate::pipeline::validate::{self, Invalid};
use crate::router::Route;
use crate::snapshot::Snapshot;

/// Calls the plugins for the upstream, the target, the hash key and the timeout of a request. What the destination
/// has chosen is already in the facts.
///
/// # Errors
/// `PluginFailed`.
pub(super) async fn run(exchange: &mut Exchange, route: &Route) -> Result<(), Fault> {
    for routing in &route.routing {
        if exchange.leaves_out(&**routing) {
            continue;
        }
        let question = Question::new(&**routing, Function::Route, &exchange.facts.head, &exchange.snapshot);
        let answer = call::ask(
            &mut exchange.facts.record,
            question,
            || routing.route(Call { head: &exchange.facts.head, fetch: &exchange.snapshot }),
            |destination| {
                let merge = route.config.merge_slashes;
                let check = |some| Choice::check(some, &**routing, &exchange.snapshot, merge);
                destination.map(check).transpose()
            },
        );
        if let Some(choice) = answer.await? {
            apply(choice, exchange, routing.credentials());
        }
    }
    Ok(())
}

/// A validated choice of a binding.
#[derive(Clone)]
pub(super) struct Choice {
    upstream: Option<Arc<str>>,
    target: Option<PathAndQuery>,
    hash_key: Option<Bytes>,
    timeout: Option<Duration>,
    response_headers: Vec<(HeaderName, HeaderValue)>,
}

impl Choice {
    pub(super) fn check(
        destination: Destination,
        binding: &dyn Binding,
        snapshot: &Snapshot,
        merge: bool,
    ) -> Result<Self, Invalid> {
        let upstream = match destination.upstream {
            None => None,
            Some(name) if !binding.may_route_to(&name) => {
                return Err(Invalid::new("the upstream is not granted by `route_to`"));
            }
            Some(name) => match snapshot.upstreams.get_key_value(name.as_str()) {
                Some((name, _)) => Some(Arc::clone(name)),
                None => return Err(Invalid::new("there is no such upstream")),
            },
        };
        let gateway = &snapshot.config.gateway;
        let target = destination
            .path
            .map(|path| validate::target(&path, (gateway, merge), binding.credentials()))
            .transpose()?;
        Ok(Choice {
            upstream,
            target,
            hash_key: destination.hash_key,
            timeout: destination.timeout,
            response_headers: validate::response_headers(destination.response_headers)?,
        })
    }
}

impl call::Decision for Option<Choice> {
    fn in_words(&self) -> &'static str {
        match self {
            None => "no choice",
            Some(Choice { upstream: Some(_), .. }) => "chose an upstream",
            Some(_) => "changed the request's way",
        }
    }
}

/// The validated result of a binding; `None` leaves the earlier choice as it is.
impl Rememberable for Option<Choice> {
    fn size(&self) -> usize {
        self.as_ref().map_or(0, |choice| {
            choice.target.as_ref().map_or(0, |target| target.as_str().len())
                + choice.hash_key.as_ref().map_or(0, Bytes::len)
                + validate::size_of_headers(&choice.response_headers)
                + size_of::<Choice>()
        })
    }
}

/// Replaces those parts of the earlier choice that this one names.
pub(super) fn apply(choice: Rc<Option<Choice>>, exchange: &mut Exchange, credentials: &Credentials) {
    let Some(choice) = Rc::unwrap_or_clone(choice) else { return };
    if choice.upstream.is_some() {
        exchange.facts.upstream = choice.upstream;
    }
    if let Some(target) = choice.target {
        validate::retarget(Arc::make_mut(&mut exchange.facts.head), target, credentials);
    }
    if choice.hash_key.is_some() {
        exchange.facts.hash_key = choice.hash_key;
    }
    exchange.facts.limit_time(choice.timeout);
    exchange.facts.response_headers.extend(choice.response_headers);
}
