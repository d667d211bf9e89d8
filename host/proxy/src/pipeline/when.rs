//! Which bindings are left out of a request, by their `when` and `unless`.

use crate::pipeline::exchange::Exchange;
use crate::router::Route;
use crate::router::when::{Judgement, Spellings};

/// Judges every conditional binding of the route on the request as the client sent it. Called before any filter or
/// plugin has seen the request.
pub(super) fn judge(exchange: &mut Exchange, route: &Route) {
    let head = &exchange.facts.head;
    let paths = Spellings::of(head.path());
    for (index, conditional) in route.conditional.iter().enumerate() {
        match conditional.when.judge(head, &paths) {
            Judgement::Applies => {}
            Judgement::LeftOut => exchange.left_out.push(conditional.version),
            Judgement::ByIdentity(met) => exchange.undecided.push((index, met)),
        }
    }
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
