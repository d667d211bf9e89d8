//! Which bindings are left out of a request, by their `when` and `unless`.

use witgate_config::model::EncodedSlashes;
use witgate_exchange::head::RequestHead;
use witgate_exchange::path;

use crate::pipeline::exchange::Exchange;
use crate::router::Route;
use crate::router::when::Judgement;

/// Judges every conditional binding of the route on the request as the client sent it. Called before any filter or
/// plugin has seen the request.
pub(super) fn judge(exchange: &mut Exchange, route: &Route) {
    // A route that keeps slashes was chosen by the merged path. Conditions are judged by it as well, so that no spelling
    // of a path leads around a binding.
    let encoded = exchange.snapshot.config.gateway.encoded_slashes;
    let merged =
        if route.config.merge_slashes { None } else { with_merged_path(&exchange.facts.head, encoded) };
    let head = merged.as_ref().unwrap_or(&exchange.facts.head);
    for (index, conditional) in route.conditional.iter().enumerate() {
        match conditional.when.judge(head) {
            Judgement::Applies => {}
            Judgement::LeftOut => exchange.left_out.push(conditional.version),
            Judgement::ByIdentity(met) => exchange.undecided.push((index, met)),
        }
    }
}

/// The head with its slashes merged. `None` if its path cannot be normalised, which the checks of the head rule out.
fn with_merged_path(head: &RequestHead, encoded: EncodedSlashes) -> Option<RequestHead> {
    let target = path::normalise(head.target.as_str(), encoded).ok()?;
    Some(RequestHead { target, ..head.clone() })
}

/// Decides about the bindings that depend on the identity. Called when authentication is through.
pub(super) fn judge_by_identity(exchange: &mut Exchange, route: &Route) {
    let identity = exchange.facts.head.identity.as_deref();
    for (index, met) in std::mem::take(&mut exchange.undecided) {
        let conditional = &route.conditional[index];
        if !conditional.when.admits(met, identity) {
            exchange.left_out.push(conditional.version);
        }
    }
}
