//! A binding in service.

use std::sync::Arc;
use std::time::Duration;

use witgate_config::model::OnFailure;

use super::{
    Authentication, AuthenticationByBody, Gate, Interest, Observer, RateLimiting, RefusalByBody, Routing,
    RoutingByBody, Transformation,
};
use crate::credentials::Credentials;

/// One binding in service: code with its settings, rights and budgets, either a plugin or native code.
///
/// A binding shows which contracts it serves by returning them. It is asked for them once, when a route is built.
/// Every contract is also a binding, so that its caller knows which binding it calls.
///
/// A call runs on the core that makes it. A call that does not wait has ended when its result is returned. Any
/// other may be dropped at any await, for example because the client left. A call that took time reads the core's
/// clock at its end, from which the pipeline computes the duration.
pub trait Binding: Send + Sync {
    /// Its name.
    fn name(&self) -> &Arc<str>;

    /// A number that no other version of any binding has in this process. It changes whenever code, settings or
    /// grants change. Results that were remembered for one version are never used for another.
    fn version(&self) -> u64;

    /// What happens to a request whose call failed.
    fn on_failure(&self) -> OnFailure;

    /// What the binding declares to look at.
    fn interest(&self) -> &Interest {
        static NOTHING: Interest = Interest::NOTHING;
        &NOTHING
    }

    /// Which credentials it may see.
    fn credentials(&self) -> &Credentials {
        Credentials::visible()
    }

    /// The limits that the pipeline enforces.
    fn limits(&self) -> PluginLimits {
        PluginLimits { body: 0, context: 0 }
    }

    /// Whether results of the binding may be remembered at all.
    fn remembers(&self) -> bool {
        false
    }

    /// Called when a remembered result was used in place of a call.
    fn answered_again(&self) {}

    /// Whether it may leave notes for later plugins, or set the `Host` that the upstream sees.
    fn leaves_notes(&self) -> bool {
        false
    }

    /// Whether it may say after a request what its draws have cost.
    fn settles(&self) -> bool {
        false
    }

    /// Whether the routing contract may choose this upstream.
    fn may_route_to(&self, _upstream: &str) -> bool {
        false
    }

    /// What was measured of its calls; zeros if nothing measures.
    fn measured(&self) -> Measured {
        Measured::default()
    }

    /// Called when the result of a call broke a rule that only the pipeline can check. The call then counts as
    /// failed.
    fn reject_answer(&self, reason: &str);

    /// Why and since when the binding is quarantined; `None` if it is in service.
    fn quarantine(&self) -> Option<Quarantined> {
        None
    }

    /// The contract `gate`, if the binding serves it.
    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        None
    }

    /// The contract `authentication`, if the binding serves it.
    fn authentication(self: Arc<Self>) -> Option<Arc<dyn Authentication>> {
        None
    }

    /// The contract `authentication-by-body`, if the binding serves it. Its interest then says what it reads.
    fn authentication_by_body(self: Arc<Self>) -> Option<Arc<dyn AuthenticationByBody>> {
        None
    }

    /// The contract `rate-limiting`, if the binding serves it.
    fn rate_limiting(self: Arc<Self>) -> Option<Arc<dyn RateLimiting>> {
        None
    }

    /// The contract `refusal-by-body`, if the binding serves it. Its interest then says what it reads.
    fn refusal_by_body(self: Arc<Self>) -> Option<Arc<dyn RefusalByBody>> {
        None
    }

    /// The contract `routing`, if the binding serves it.
    fn routing(self: Arc<Self>) -> Option<Arc<dyn Routing>> {
        None
    }

    /// The contract `routing-by-body`, if the binding serves it. Its interest then says what it reads.
    fn routing_by_body(self: Arc<Self>) -> Option<Arc<dyn RoutingByBody>> {
        None
    }

    /// The contract `transformation`, if the binding serves it.
    fn transformation(self: Arc<Self>) -> Option<Arc<dyn Transformation>> {
        None
    }

    /// Which contracts it serves that no request in progress calls: `observe` and `tick`.
    fn background(&self) -> Contracts {
        Contracts::default()
    }

    /// The contract `observe`, if the binding serves it. It observes for as long as somebody keeps what is returned, and what is
    /// queued then is still passed to the binding.
    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        None
    }
}

/// Which contracts a binding serves, or a component exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the contracts")]
pub struct Contracts {
    pub gate: bool,
    pub authentication: bool,
    pub authentication_by_body: bool,
    pub rate_limiting: bool,
    pub refusal_by_body: bool,
    pub routing: bool,
    pub routing_by_body: bool,
    pub transformation: bool,
    pub observe: bool,
    pub tick: bool,
}

impl Contracts {
    /// The contracts that a binding returns.
    pub fn of(binding: &Arc<dyn Binding>) -> Contracts {
        let binding = || Arc::clone(binding);
        Contracts {
            gate: binding().gate().is_some(),
            authentication: binding().authentication().is_some(),
            authentication_by_body: binding().authentication_by_body().is_some(),
            rate_limiting: binding().rate_limiting().is_some(),
            refusal_by_body: binding().refusal_by_body().is_some(),
            routing: binding().routing().is_some(),
            routing_by_body: binding().routing_by_body().is_some(),
            transformation: binding().transformation().is_some(),
            ..binding().background()
        }
    }

    /// Whether the binding decides before it is known who the caller is, so that none of its conditions can be about the
    /// identity.
    pub fn decide_before_identity(self) -> bool {
        self.gate || self.authenticate()
    }

    /// Whether the binding finds out who the caller is.
    pub fn authenticate(self) -> bool {
        self.authentication || self.authentication_by_body
    }

    /// Whether it serves one that is called for requests in progress.
    pub fn serves_requests(self) -> bool {
        let others = Contracts { observe: self.observe, tick: self.tick, ..Contracts::default() };
        self != others
    }

    /// Their names in the WIT package, in the order of the pipeline.
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            ("gate", self.gate),
            ("authentication", self.authentication),
            ("authentication-by-body", self.authentication_by_body),
            ("rate-limiting", self.rate_limiting),
            ("refusal-by-body", self.refusal_by_body),
            ("routing", self.routing),
            ("routing-by-body", self.routing_by_body),
            ("transformation", self.transformation),
            ("observe", self.observe),
            ("tick", self.tick),
        ];
        all.into_iter().filter_map(|(name, served)| served.then_some(name)).collect()
    }
}

/// What is measured of a plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// The most linear memory of an instance, in bytes.
    pub memory: u64,
    /// The instructions of WebAssembly that all instances have executed, by a runtime that counts; otherwise 0.
    pub instructions: u64,
}

/// Budgets of a binding that the pipeline enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginLimits {
    /// Bytes of a buffered body, before and after decoding. Streamed bodies are limited by the ratio of decoded to
    /// received bytes.
    pub body: usize,
    /// Bytes of the context that a transformation keeps between its calls.
    pub context: usize,
}

/// A binding in quarantine: its calls fail without being made, except for one probe at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// How long the quarantine has lasted.
    pub lasted: Duration,
    /// Whether the next call is a probe. If not, the quarantine lasts on.
    pub probing: bool,
    /// The reason, with figures, for example `20 of 20 calls within 10s failed`.
    pub cause: String,
}
