//! `upstreams.NAME.fallback`: what is done with requests that the upstream cannot take.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Size, Text};
use crate::written::Scope;
use crate::written::route_action::Respond;

/// The number of shards of the stored responses, which keep cores from waiting for each other.
const SHARES: usize = 8;

/// What is done with a request that the upstream cannot take, before any of it was sent: the last good response is
/// used, else another upstream gets the request, else a fixed response is sent; as far as each is set.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fallback {
    /// The fault codes of the failures it applies to.
    #[schemars(length(min = 1))]
    on: Vec<FallbackOn>,
    /// The last good response to the same GET, if one is stored.
    cached: Option<Cached>,
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

/// The last good responses, kept in memory for failures only: while the upstream takes requests, they are not
/// used.
///
/// Only what anybody may see is stored: 200 to a GET without `Authorization`, `Cookie` and a known caller, without
/// `Set-Cookie`, whose `Cache-Control` forbids neither storing it nor using it when it is stale (`no-store`,
/// `private`, `no-cache`, `must-revalidate`, `proxy-revalidate`, `s-maxage`), and which varies at most by
/// `Accept-Encoding`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Cached {
    /// The most responses that are stored; the latest are kept.
    #[schemars(range(min = 8, max = 1_000_000))]
    entries: usize,
    /// Bytes of all of them together, at least eight times `entry_bytes`.
    bytes: Text<Size>,
    /// Bytes of the largest response that is stored, including headers.
    entry_bytes: Text<Size>,
    /// The age up to which a response is used.
    max_age: Text<Duration>,
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            on: vec![FallbackOn::BreakerOpen, FallbackOn::NoEndpoint, FallbackOn::UpstreamOverloaded],
            cached: None,
            upstream: None,
            respond: None,
        }
    }
}

impl Default for Cached {
    fn default() -> Self {
        Self {
            entries: 1024,
            bytes: Text::of("8MiB"),
            entry_bytes: Text::of("64KiB"),
            max_age: Text::of("1h"),
        }
    }
}

impl Fallback {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Fallback {
        if self.cached.is_none() && self.upstream.is_none() && self.respond.is_none() {
            let hint = Some("set one or more of `cached`, `upstream` and `respond`".to_owned());
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
            cached: self.cached.map(|cached| cached.meant(&child(at, "cached"), scope)),
            upstream: self.upstream,
            respond: self.respond.map(|respond| respond.answer(&child(at, "respond"), scope)),
        }
    }
}

impl Cached {
    fn meant(self, at: &str, scope: &mut Scope) -> model::CachedAnswers {
        let (bytes, entry_bytes) = (self.bytes.value.in_memory(), self.entry_bytes.value.in_memory());
        if entry_bytes > bytes / SHARES {
            let hint =
                Some("responses are stored in eight shards, each with an eighth of `bytes`".to_owned());
            scope.report(at, "`bytes` must be at least eight times `entry_bytes`", hint);
        }
        model::CachedAnswers {
            entries: self.entries,
            bytes,
            entry_bytes,
            max_age: scope.check_positive(at, "max_age", self.max_age.value.0),
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
