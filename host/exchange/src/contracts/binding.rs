//! A binding in service.

use std::sync::Arc;
use std::time::Duration;

use witgate_config::model::OnFailure;

use super::{Authentication, Interest, RateLimiting, Routing, Transformation};

/// One binding in service: code with its settings, rights and budgets, whether a plugin or native.
///
/// It says which contracts it serves by handing them out; they are asked for once, when a route is built. A contract is a
/// binding as well, so that whoever calls it knows whose call it is.
///
/// Calls run on the core that makes them: one that has nothing to wait for is over when its result is handed out, any other
/// may be dropped at any await, e.g. because the client went away. Where a call took time, the clock of the core is read at
/// its end: that is how the pipeline knows how long it took.
pub trait Binding: Send + Sync {
    /// Its name.
    fn name(&self) -> &Arc<str>;

    /// A number that no other version of any binding has in this process: it changes whenever code, settings or grants do.
    /// What was remembered of one version is never used for another.
    fn version(&self) -> u64;

    /// What becomes of a request whose call failed.
    fn on_failure(&self) -> OnFailure;

    /// What it looks at.
    fn interest(&self) -> &Interest {
        static NOTHING: Interest = Interest::NOTHING;
        &NOTHING
    }

    /// What the pipeline itself must hold it to.
    fn limits(&self) -> PluginLimits {
        PluginLimits { body: 0, context: 0 }
    }

    /// Whether its answers may be remembered at all.
    fn remembers(&self) -> bool {
        false
    }

    /// An answer of an earlier call was used again in place of a call.
    fn answered_again(&self) {}

    /// Whether the routing contract may choose this upstream.
    fn may_route_to(&self, _upstream: &str) -> bool {
        false
    }

    /// The answer of an earlier call broke a rule that only the pipeline could check; counts as a failed call.
    fn reject_answer(&self, reason: &str);

    /// Why and since when no calls are made of it but probes; none: it is in service.
    fn quarantine(&self) -> Option<Quarantined> {
        None
    }

    /// Its contract `authentication`, if it serves that.
    fn authentication(self: Arc<Self>) -> Option<Arc<dyn Authentication>> {
        None
    }

    /// Its contract `rate-limiting`, if it serves that.
    fn rate_limiting(self: Arc<Self>) -> Option<Arc<dyn RateLimiting>> {
        None
    }

    /// Its contract `routing`, if it serves that.
    fn routing(self: Arc<Self>) -> Option<Arc<dyn Routing>> {
        None
    }

    /// Its contract `transformation`, if it serves that.
    fn transformation(self: Arc<Self>) -> Option<Arc<dyn Transformation>> {
        None
    }
}

/// Which contracts a binding serves, or a component exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the contracts")]
pub struct Contracts {
    pub authentication: bool,
    pub rate_limiting: bool,
    pub routing: bool,
    pub transformation: bool,
}

impl Contracts {
    /// Those that a binding hands out.
    pub fn of(binding: &Arc<dyn Binding>) -> Contracts {
        let binding = || Arc::clone(binding);
        Contracts {
            authentication: binding().authentication().is_some(),
            rate_limiting: binding().rate_limiting().is_some(),
            routing: binding().routing().is_some(),
            transformation: binding().transformation().is_some(),
        }
    }

    /// Their names in the WIT package, in the order of a request's way.
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            ("authentication", self.authentication),
            ("rate-limiting", self.rate_limiting),
            ("routing", self.routing),
            ("transformation", self.transformation),
        ];
        all.into_iter().filter_map(|(name, served)| served.then_some(name)).collect()
    }
}

/// Budgets of a binding that the pipeline enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginLimits {
    /// Bytes of a buffered body, as it came and decoded. Streamed bodies are bounded by their ratio to what came.
    pub body: usize,
    /// Bytes of context.
    pub context: usize,
}

/// A binding in quarantine: its calls fail without being made, but for one probe at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// For how long it has been.
    pub lasted: Duration,
    /// Whether the next call probes it; else the quarantine still lasts.
    pub probing: bool,
    /// Why, with figures, e.g. `20 of 20 calls within 10s failed`.
    pub cause: String,
}
