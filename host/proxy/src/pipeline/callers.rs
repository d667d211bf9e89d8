//! The route's `allow` and `deny`: which known callers may use it.

use witgate_config::model::Callers;
use witgate_config::scalar::CallerPattern;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;

use super::exchange::Exchange;
use crate::router::Route;

/// Refuses a caller that the route does not admit; a route in a dry run only records it.
///
/// # Errors
/// `Forbidden`.
pub(super) fn check(exchange: &mut Exchange, route: &Route) -> Result<(), Fault> {
    let callers = &route.config.callers;
    let Some(cause) = refusal(callers, &exchange.facts.head) else { return Ok(()) };
    if callers.dry_run {
        exchange.facts.record.dry_run_refusal = Some(cause);
        return Ok(());
    }
    Err(Fault::new(FaultKind::Forbidden).cause(cause))
}

/// Why the caller is refused; `None`: it is not.
fn refusal(callers: &Callers, head: &RequestHead) -> Option<&'static str> {
    if callers.deny.iter().any(|pattern| means(pattern, head)) {
        return Some("the route's `deny` names the caller");
    }
    if !callers.allow.is_empty() && !callers.allow.iter().any(|pattern| means(pattern, head)) {
        return Some("the route's `allow` does not name the caller");
    }
    None
}

/// Whether a pattern means the caller. SPIFFE ids are compared only with that of the verified certificate, so no plugin
/// and no token can claim one.
fn means(pattern: &CallerPattern, head: &RequestHead) -> bool {
    let certificate = head.client.certificate.as_ref();
    match pattern {
        CallerPattern::Known => {
            head.identity.is_some() || certificate.is_some_and(|shown| shown.spiffe_id.is_some())
        }
        CallerPattern::Spiffe(pattern) => {
            certificate.and_then(|shown| shown.spiffe_id.as_ref()).is_some_and(|id| pattern.matches(id))
        }
        CallerPattern::Subject(subject) => {
            head.identity.as_ref().is_some_and(|identity| identity.subject == *subject)
        }
    }
}
