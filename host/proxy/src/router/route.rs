//! A route as the data path uses it.

use std::ops::ControlFlow;
use std::sync::Arc;

use witgate_config::model::EncodedSlashes;
use witgate_config::{Problem, Problems, model};
use witgate_exchange::contracts::{
    Authentication, AuthenticationByBody, Binding, Gate, RateLimiting, RefusalByBody, Routing, RoutingByBody,
    Transformation,
};
use witgate_exchange::destination::Destination;
use witgate_exchange::head::RequestHead;
use witgate_exchange::path;
use witgate_telemetry::route_series::RouteSeries;
use witgate_upstream::Upstreams;

use super::condition::Conditions;
use super::pattern::{Pattern, decode};
use super::tree::Tree;
use super::when::When;
use crate::destination::{self, Around, Brokers, BuildInputs};
use crate::filters::{Filter, Preflight, Stage};

/// A route with its filters and plugins resolved.
pub struct Route {
    /// Name of the route.
    pub name: Arc<str>,
    /// Where its requests are counted.
    pub series: Arc<RouteSeries>,
    /// Its configuration.
    pub config: model::Route,
    /// The filters of gateway, listener and route, in the order in which requests pass them.
    pub filters: Vec<(Stage, Arc<dyn Filter>)>,
    /// The bindings that are called only for some requests. Empty on most routes.
    pub conditional: Vec<Conditional>,
    /// Bindings of the gate phase.
    pub gate: Vec<Arc<dyn Gate>>,
    /// Bindings of the authentication phase.
    pub authentication: Vec<Arc<dyn Authentication>>,
    /// Bindings that authenticate by the body.
    pub authentication_by_body: Vec<Arc<dyn AuthenticationByBody>>,
    /// Bindings of the rate-limiting phase.
    pub rate_limiting: Vec<Arc<dyn RateLimiting>>,
    /// Bindings that refuse by the body.
    pub refusal_by_body: Vec<Arc<dyn RefusalByBody>>,
    /// Bindings of the routing phase.
    pub routing: Vec<Arc<dyn Routing>>,
    /// Bindings that route by the body.
    pub routing_by_body: Vec<Arc<dyn RoutingByBody>>,
    /// Bindings of the transformation phase.
    pub transformation: Vec<Arc<dyn Transformation>>,
    /// Whether the client certificate identifies its callers: the listener says so, and no plugin authenticates.
    pub by_certificate: bool,
    /// Whether every upstream that may get its requests speaks HTTP/2, so that gRPC passes as such.
    pub carries_grpc: bool,
    /// Whether any of its bindings may leave notes.
    pub takes_notes: bool,
    /// What gives the responses to its requests.
    pub destination: Arc<dyn Destination>,
    pub(super) rule: Arc<Rule>,
}

/// A binding that is called only for some requests.
pub struct Conditional {
    /// Name of the binding.
    pub name: Arc<str>,
    /// Its version, which no other binding has.
    pub version: u64,
    /// The requests that it is for.
    pub when: Arc<When>,
}

/// The compiled conditions and action of a route, shared by all listeners that it belongs to.
pub(crate) struct Rule {
    /// Position of the route in the configuration.
    pub(super) position: usize,
    pub(super) pattern: Pattern,
    pub(super) parameters: Vec<Arc<str>>,
    pub(super) conditions: Conditions,
    destination: Arc<dyn Destination>,
    /// The pattern alone, for paths whose slashes are not merged; none: they are.
    unmerged: Option<Tree<()>>,
}

impl Rule {
    /// Compiles the route at this position of the configuration, which may forward to these upstreams.
    /// `around`: what wraps its destination.
    ///
    /// # Errors
    /// Every mistake in its conditions and its action.
    pub(crate) fn compile(
        position: usize,
        config: &model::Route,
        upstreams: &Arc<Upstreams>,
        brokers: &Brokers,
        around: Around<'_>,
    ) -> Result<Rule, Problems> {
        let mut problems = Problems::new();
        let mut report = |key: &str, message: String, hint: String| {
            let key = format!("routes[{position}].{key}");
            problems.push(Problem { message, span: None, key, hint: Some(hint) });
        };
        let pattern = Pattern::parse(config.matches.path.as_ref());
        let pattern = pattern.map_err(|(message, hint)| report("path", message, hint)).ok();
        let conditions = Conditions::compile(&config.matches);
        let conditions = conditions
            .map_err(|wrong| wrong.into_iter().for_each(|(key, message, hint)| report(&key, message, hint)))
            .ok();
        let destination = pattern.as_ref().and_then(|pattern| {
            let built = destination::build(&BuildInputs {
                action: &config.action,
                pattern,
                upstreams,
                brokers,
                merge_slashes: config.merge_slashes,
                around,
                cache: config.cache.as_ref(),
            });
            built.map_err(|(key, message, hint)| report(key, message, hint)).ok()
        });
        match (pattern, conditions, destination) {
            (Some(pattern), Some(conditions), Some(destination)) => {
                let parameters = pattern.parameters();
                let unmerged = (!config.merge_slashes).then(|| {
                    let mut tree = Tree::default();
                    tree.place(&pattern);
                    tree
                });
                Ok(Rule { position, pattern, parameters, conditions, destination, unmerged })
            }
            _ => Err(problems),
        }
    }
}

impl Route {
    /// A route without filters and plugins.
    pub(crate) fn new(config: model::Route, rule: Arc<Rule>) -> Route {
        let name: Arc<str> = config.name.as_str().into();
        Route {
            series: Arc::new(RouteSeries::new(name.clone())),
            name,
            config,
            filters: Vec::new(),
            conditional: Vec::new(),
            gate: Vec::new(),
            authentication: Vec::new(),
            authentication_by_body: Vec::new(),
            rate_limiting: Vec::new(),
            refusal_by_body: Vec::new(),
            routing: Vec::new(),
            routing_by_body: Vec::new(),
            transformation: Vec::new(),
            by_certificate: false,
            carries_grpc: false,
            takes_notes: false,
            destination: rule.destination.clone(),
            rule,
        }
    }

    /// How to recognise the preflights that one of its filters responds to; `None` if there is no such filter.
    pub(super) fn preflight(&self) -> Option<Preflight> {
        self.filters.iter().find_map(|(_, filter)| filter.preflight())
    }

    /// Whether any plugin is called for its requests.
    pub(crate) fn has_plugins(&self) -> bool {
        !(self.gate.is_empty()
            && self.authentication.is_empty()
            && self.authentication_by_body.is_empty()
            && self.rate_limiting.is_empty()
            && self.refusal_by_body.is_empty()
            && self.routing.is_empty()
            && self.routing_by_body.is_empty()
            && self.transformation.is_empty())
    }

    /// Whether any plugin finds out who its callers are.
    pub(crate) fn authenticates(&self) -> bool {
        !(self.authentication.is_empty() && self.authentication_by_body.is_empty())
    }

    /// Puts a binding into the phase of each contract that it serves. With conditions, it is called only for the
    /// requests that meet them.
    pub(crate) fn bind(&mut self, binding: &Arc<dyn Binding>, when: Option<&Arc<When>>) {
        self.conditional.extend(when.map(|when| Conditional {
            name: binding.name().clone(),
            version: binding.version(),
            when: when.clone(),
        }));
        self.takes_notes |= binding.leaves_notes();
        let binding = || Arc::clone(binding);
        self.gate.extend(binding().gate());
        self.authentication.extend(binding().authentication());
        self.authentication_by_body.extend(binding().authentication_by_body());
        self.rate_limiting.extend(binding().rate_limiting());
        self.refusal_by_body.extend(binding().refusal_by_body());
        self.routing.extend(binding().routing());
        self.routing_by_body.extend(binding().routing_by_body());
        self.transformation.extend(binding().transformation());
        if let (Some(observer), Some(series)) = (binding().observer(), Arc::get_mut(&mut self.series)) {
            series.observed_by(observer);
        }
    }

    /// Gives the head the path with all its slashes, if this route distinguishes empty segments and its pattern matches
    /// that path as well.
    pub(crate) fn keep_slashes(&self, head: &mut RequestHead, slashes: EncodedSlashes) {
        let (Some(unmerged), Some(received)) = (&self.rule.unmerged, &head.received_target) else { return };
        let Ok(target) = path::normalise_apart(received.as_str(), slashes) else { return };
        let mut parameters = None;
        let _ = unmerged.visit(target.path(), &mut |(), captured| {
            parameters = Some(self.parameters(captured));
            ControlFlow::Break(())
        });
        if let Some(parameters) = parameters {
            head.parameters = parameters;
            head.target = target;
        }
    }

    /// The path parameters with their decoded values.
    pub(super) fn parameters(&self, captured: &[&str]) -> Vec<(Arc<str>, String)> {
        let values = captured.iter().map(|value| decode(value).into_owned());
        self.rule.parameters.iter().cloned().zip(values).collect()
    }
}
