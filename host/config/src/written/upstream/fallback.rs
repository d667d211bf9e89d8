//! `upstreams.NAME.fallback`: what is done with requests that the upstream cannot take.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::written::Scope;
use crate::written::route_action::Respond;

/// What is done with a request that the upstream cannot take, before any of it was sent: another upstream gets the
/// request, or else a fixed response is sent; as far as each is set. What a cache of the route holds is used before that,
/// for as long as its `stale_if_error` says.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-removed" = {
    "cached": "write `cache = { stale_if_error = \"1h\" }` in the routes of this upstream: a shared cache keeps the responses"
}))]
pub(super) struct Fallback {
    /// The fault codes of the failures it applies to.
    #[schemars(length(min = 1))]
    on: Vec<FallbackOn>,
    /// Another upstream gets the request, with its own circuit breakers, limits and fallback.
    upstream: Option<String>,
    /// A fixed response.
    respond: Option<Respond>,
}

/// A failure to which a fallback applies.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum FallbackOn {
    BreakerOpen,
    NoEndpoint,
    UpstreamOverloaded,
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            on: vec![FallbackOn::BreakerOpen, FallbackOn::NoEndpoint, FallbackOn::UpstreamOverloaded],
            upstream: None,
            respond: None,
        }
    }
}

impl Fallback {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Fallback {
        if self.upstream.is_none() && self.respond.is_none() {
            let hint = Some("set one or both of `upstream` and `respond`".to_owned());
            scope.report(at, "this fallback does not say what is done", hint);
        }
        if let Some(name) = &self.upstream {
            scope.check_upstream(&child(at, "upstream"), name);
        }
        let on = |wanted: fn(&FallbackOn) -> bool| self.on.iter().any(wanted);
        model::Fallback {
            on_breaker_open: on(|on| matches!(on, FallbackOn::BreakerOpen)),
            on_no_endpoint: on(|on| matches!(on, FallbackOn::NoEndpoint)),
            on_overload: on(|on| matches!(on, FallbackOn::UpstreamOverloaded)),
            upstream: self.upstream,
            respond: self.respond.map(|respond| respond.answer(&child(at, "respond"), scope)),
        }
    }
}

/// Refuses upstreams that are, directly or through others, fallbacks of themselves. Each ring is reported once, at
/// the first of its upstreams by name.
pub(crate) fn check_rings(upstreams: &BTreeMap<String, model::Upstream>, scope: &mut Scope) {
    let next = |name: &str| upstreams.get(name)?.fallback.as_ref()?.upstream.as_deref();
    for name in upstreams.keys() {
        let mut ring = vec![name.as_str()];
        let mut at = next(name);
        while let Some(one) = at.filter(|one| !ring.contains(one)) {
            ring.push(one);
            at = next(one);
        }
        if at == Some(name) && ring.iter().min() == Some(&name.as_str()) {
            ring.push(name);
            let pointer = child(&child("/upstreams", name), "fallback");
            scope.report(
                &child(&pointer, "upstream"),
                format!("the fallbacks form a ring: {}", ring.join(", then ")),
                Some("let one of them end with `respond`, or with nothing".to_owned()),
            );
        }
    }
}
