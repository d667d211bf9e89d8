//! The decisions on the body of a request: authentication, refusal and routing by body.
//!
//! Each is a phase of its own, after the phase that decides by the head. They are never remembered. A binding is
//! called with a body of length 0 if the request has none.

use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use witgate_config::model::Auth;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::{Binding, BodyContent, Call, Phase, Reading};
use witgate_exchange::fault::Fault;

use crate::pipeline::authentication::{Recognition, Verdict};
use crate::pipeline::body::reader::BodyReader;
use crate::pipeline::call;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::routing::{self, Choice};
use crate::pipeline::validate;
use crate::router::Route;

/// Asks the bindings that authenticate by the body, as far as the caller is not known yet. Returns the response of one
/// that refuses.
///
/// # Errors
/// `PluginFailed`, or the body cannot be read, see [`BodyReader::read`].
pub(super) async fn authenticate(
    exchange: &mut Exchange,
    route: &Route,
    body: &mut BodyReader,
    recognition: &mut Recognition,
) -> Result<Option<Response<Body>>, Fault> {
    for plugin in &route.authentication_by_body {
        if exchange.leaves_out(&**plugin) {
            recognition.leave_out();
            continue;
        }
        let content = read(exchange, &**plugin, plugin.interest().authenticates_by_body, body).await?;
        let answer = call::call(
            &mut exchange.facts.record.plugins,
            &**plugin,
            Phase::AuthenticationByBody,
            || {
                let call = Call { head: &exchange.facts.head, fetch: &exchange.snapshot };
                plugin.authenticate_by_body(call, content)
            },
            |decision| Verdict::check(decision, &**plugin, &exchange.snapshot.config.gateway),
        );
        let verdict = answer.await?.unwrap_or(Verdict::NotMine(Vec::new()));
        if let Some(refusal) = recognition.take(verdict, exchange) {
            return Ok(Some(refusal));
        }
        if recognition.is_known() && route.config.auth != Auth::All {
            break;
        }
    }
    Ok(None)
}

/// Asks the bindings that refuse by the body. Returns the response of the first that refuses.
///
/// # Errors
/// As [`authenticate`].
pub(super) async fn refuse(
    exchange: &mut Exchange,
    route: &Route,
    body: &mut BodyReader,
) -> Result<Option<Response<Body>>, Fault> {
    for plugin in &route.refusal_by_body {
        if exchange.leaves_out(&**plugin) {
            continue;
        }
        let content = read(exchange, &**plugin, plugin.interest().refuses_by_body, body).await?;
        let answer = call::call(
            &mut exchange.facts.record.plugins,
            &**plugin,
            Phase::RefusalByBody,
            || {
                let call = Call { head: &exchange.facts.head, fetch: &exchange.snapshot };
                plugin.refuse_by_body(call, content)
            },
            |refusal| refusal.map(validate::response).transpose(),
        );
        if let Some(refusal) = answer.await?.flatten() {
            return Ok(Some(refusal));
        }
    }
    Ok(None)
}

/// Asks the bindings that route by the body, whose choices replace earlier ones field by field.
///
/// # Errors
/// As [`authenticate`].
pub(super) async fn route(
    exchange: &mut Exchange,
    route: &Route,
    body: &mut BodyReader,
) -> Result<(), Fault> {
    for plugin in &route.routing_by_body {
        if exchange.leaves_out(&**plugin) {
            continue;
        }
        let content = read(exchange, &**plugin, plugin.interest().routes_by_body, body).await?;
        let answer = call::call(
            &mut exchange.facts.record.plugins,
            &**plugin,
            Phase::RoutingByBody,
            || {
                let call = Call { head: &exchange.facts.head, fetch: &exchange.snapshot };
                plugin.route_by_body(call, content)
            },
            |chosen| {
                chosen
                    .map(|chosen| {
                        Choice::check(chosen, &**plugin, &exchange.snapshot, route.config.merge_slashes)
                    })
                    .transpose()
            },
        );
        if let Some(choice) = answer.await? {
            routing::apply(Rc::new(choice), exchange, plugin.credentials());
        }
    }
    Ok(())
}

impl call::Decision for Option<Response<Body>> {
    fn in_words(&self) -> &'static str {
        if self.is_some() { "refused" } else { "proceed" }
    }
}

/// What a binding reads of the body. One that declares nothing, because its plugin could not be loaded, reads nothing.
async fn read(
    exchange: &Exchange,
    plugin: &dyn Binding,
    reading: Option<Reading>,
    body: &mut BodyReader,
) -> Result<BodyContent, Fault> {
    match reading {
        Some(reading) => {
            let memory = exchange.snapshot.upstreams.body_memory();
            let patience = exchange.ingress.limits.body_timeout;
            body.read(&exchange.facts, memory, (reading, plugin.limits().body), patience).await
        }
        None => Ok(BodyContent { bytes: Bytes::new(), complete: false }),
    }
}
