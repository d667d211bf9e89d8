//! `upstreams.NAME.fallback`: what is done where the upstream cannot take a request.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Size, Text};
use crate::written::Scope;
use crate::written::route_action::Respond;

/// Parts in which answers are kept, so that cores do not wait for each other.
const SHARES: usize = 8;

/// What is done with a request that the upstream cannot take, before anything of it was sent: first the last good answer
/// is looked for, then another upstream is asked, then a fixed answer is given; whichever of them is set.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fallback {
    /// What it is for, by the code clients would be told.
    #[schemars(length(min = 1))]
    on: Vec<FallbackOn>,
    /// The last good answer to the same GET, if it is at hand.
    cached: Option<Cached>,
    /// Another upstream takes the request, with breakers, limits and a fallback of its own.
    upstream: Option<String>,
    /// A fixed answer.
    respond: Option<Respond>,
}

/// What a fallback is for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum FallbackOn {
    BreakerOpen,
    NoEndpoint,
    UpstreamOverloaded,
}

/// The last good answers, kept in memory for bad times only: a fresh one is never answered from here.
///
/// Only what anybody may see is kept: 200 to a GET without `Authorization`, `Cookie` and a known caller, without
/// `Set-Cookie`, whose `Cache-Control` forbids neither keeping it nor using it when it is old (`no-store`, `private`,
/// `no-cache`, `must-revalidate`, `proxy-revalidate`, `s-maxage`), and which does not vary but by `Accept-Encoding`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Cached {
    /// Answers kept, the latest.
    #[schemars(range(min = 8, max = 1_000_000))]
    entries: usize,
    /// Bytes of all of them together, at least eight times `entry_bytes`.
    bytes: Text<Size>,
    /// Bytes of the largest that is kept, headers included.
    entry_bytes: Text<Size>,
    /// How old an answer may get.
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
    /// What it means. `at` is its JSON Pointer.
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
            let hint = Some("answers are kept in eight parts, each with room for its share".to_owned());
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

/// Refuses upstreams that are, by way of others, fallbacks of themselves. Each ring is told once, at the first of its
/// upstreams by name.
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
                format!("the fallbacks run in a ring: {}", ring.join(", then ")),
                Some("let one of them end with `respond`, or with nothing".to_owned()),
            );
        }
    }
}
