//! The routing contract: where a request goes.
//!
//! The route's own choice stands first. Then every binding is asked, in the order listed, and the last word on each
//! field counts; timeouts can only become shorter. Routes that answer by themselves have nothing to choose, so their
//! routing bindings are not asked.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use witgate_config::model::Action;

use crate::contracts::{Binding, Call, Destination, Function};
use crate::fault::Fault;
use crate::pipeline::call;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::remembered::{Question, Rememberable};
use crate::pipeline::validate::{self, Invalid};
use crate::router::Route;
use crate::snapshot::Snapshot;

/// Sets the exchange's upstream, target, hash key and timeout.
///
/// # Errors
/// `BadPath` if the route's rewrite gives no path, `PluginFailed`.
pub(super) async fn run(exchange: &mut Exchange, route: &Route) -> Result<(), Fault> {
    if !matches!(route.config.action, Action::Forward(_)) {
        return Ok(());
    }
    if let Some(own) = route.forward_target(&exchange.head)? {
        exchange.upstream = Some(own.upstream);
        if own.target.is_some() {
            Arc::make_mut(&mut exchange.head).upstream_target = own.target;
        }
    }
    for routing in &route.routing {
        let question = Question::new(&**routing, Function::Route, &exchange.head, &exchange.snapshot);
        let answer = call::ask(
            &mut exchange.record.plugins,
            question,
            || routing.route(Call { head: &exchange.head, fetch: &exchange.snapshot }),
            |destination| {
                destination.map(|some| Choice::check(some, &**routing, &exchange.snapshot)).transpose()
            },
        );
        if let Some(choice) = answer.await? {
            apply(choice, exchange);
        }
    }
    Ok(())
}

/// A destination that holds.
#[derive(Clone)]
struct Choice {
    upstream: Option<Arc<str>>,
    target: Option<PathAndQuery>,
    hash_key: Option<Bytes>,
    timeout: Option<Duration>,
    response_headers: Vec<(HeaderName, HeaderValue)>,
}

impl Choice {
    fn check(destination: Destination, binding: &dyn Binding, snapshot: &Snapshot) -> Result<Self, Invalid> {
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
        let target =
            destination.path.map(|path| validate::target(&path, &snapshot.config.gateway)).transpose()?;
        Ok(Choice {
            upstream,
            target,
            hash_key: destination.hash_key,
            timeout: destination.timeout,
            response_headers: validate::response_headers(destination.response_headers)?,
        })
    }
}

/// Nothing, or a destination: what a binding answered.
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

fn apply(choice: Rc<Option<Choice>>, exchange: &mut Exchange) {
    let Some(choice) = Rc::unwrap_or_clone(choice) else { return };
    if choice.upstream.is_some() {
        exchange.upstream = choice.upstream;
    }
    if choice.target.is_some() {
        Arc::make_mut(&mut exchange.head).upstream_target = choice.target;
    }
    if choice.hash_key.is_some() {
        exchange.hash_key = choice.hash_key;
    }
    exchange.timeout = match (exchange.timeout, choice.timeout) {
        (Some(present), Some(chosen)) => Some(present.min(chosen)),
        (present, chosen) => present.or(chosen),
    };
    exchange.response_headers.extend(choice.response_headers);
}
