//! A route as the data path uses it.

use std::sync::Arc;

use witgate_config::{Problem, Problems, model};

use super::action::Prepared;
use super::condition::Conditions;
use super::pattern::{Pattern, decode};
use crate::filters::{Filter, Stage};
use crate::pipeline::plugin::Plugin;
use crate::telemetry::route_series::RouteSeries;

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
    /// Bindings of the authentication phase.
    pub authentication: Vec<Arc<dyn Plugin>>,
    /// Bindings of the rate-limiting phase.
    pub rate_limiting: Vec<Arc<dyn Plugin>>,
    /// Bindings of the routing phase.
    pub routing: Vec<Arc<dyn Plugin>>,
    /// Bindings of the transformation phase.
    pub transformation: Vec<Arc<dyn Plugin>>,
    pub(super) rule: Arc<Rule>,
}

/// The compiled conditions and action of a route, shared by all listeners that it belongs to.
pub(crate) struct Rule {
    /// Position of the route in the configuration.
    pub(super) position: usize,
    pub(super) pattern: Pattern,
    pub(super) parameters: Vec<Arc<str>>,
    pub(super) conditions: Conditions,
    pub(super) action: Prepared,
}

impl Rule {
    /// Compiles the route at this position of the configuration.
    ///
    /// # Errors
    /// Every mistake in its conditions and its action.
    pub(crate) fn compile(position: usize, config: &model::Route) -> Result<Rule, Problems> {
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
        let action = pattern.as_ref().and_then(|pattern| {
            let action = Prepared::compile(&config.action, pattern);
            action.map_err(|(key, message, hint)| report(key, message, hint)).ok()
        });
        match (pattern, conditions, action) {
            (Some(pattern), Some(conditions), Some(action)) => {
                let parameters = pattern.parameters();
                Ok(Rule { position, pattern, parameters, conditions, action })
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
            authentication: Vec::new(),
            rate_limiting: Vec::new(),
            routing: Vec::new(),
            transformation: Vec::new(),
            rule,
        }
    }

    /// Whether any plugin is called for its requests.
    pub(crate) fn has_plugins(&self) -> bool {
        [&self.authentication, &self.rate_limiting, &self.routing, &self.transformation]
            .iter()
            .any(|bindings| !bindings.is_empty())
    }

    /// The path parameters with their decoded values.
    pub(super) fn parameters(&self, captured: &[&str]) -> Vec<(Arc<str>, String)> {
        let values = captured.iter().map(|value| decode(value).into_owned());
        self.rule.parameters.iter().cloned().zip(values).collect()
    }
}
