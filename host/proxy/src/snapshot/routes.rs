//! Resolves the filters and plugins of routes, and builds a router for each listener.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use witgate_config::{Config, Problem, Problems, model};
use witgate_exchange::contracts::{Binding, Observers};
use witgate_exchange::names::Named;
use witgate_upstream::Upstreams;

use super::{Wrappers, streams};
use crate::destination::{Around, Brokers, CacheInService};
use crate::filters::{FILTERS, Filter, Stage};
use crate::router::{Route, Router, Rule, When};

/// A filter in use, with its stage and its row in the table of kinds, which orders the filters of one stage.
type StagedFilter = (Stage, usize, Arc<dyn Filter>);

/// Builds the router of every listener, and collects all problems.
pub(super) fn build(
    config: &Config,
    upstreams: &Arc<Upstreams>,
    (cache, brokers): (Option<CacheInService<'_>>, &Brokers),
    (plugins, wrappers): (&BTreeMap<String, Arc<dyn Binding>>, &Wrappers),
    problems: &mut Problems,
) -> Named<String, Router> {
    let conditions = conditions(config, problems);
    let gateway_filters = build_filters(&config.gateway.filters, problems);
    let prepared: Vec<_> = config
        .routes
        .iter()
        .enumerate()
        .filter(|(_, route)| !matches!(route.action, model::Action::Tcp(_)))
        .filter_map(|(position, route)| {
            let filters = build_filters(&route.filters, problems);
            let around = Around { wrapper: wrappers.get(&route.name), cache };
            let rule = Rule::compile(position, route, upstreams, brokers, around)
                .map_err(|more| problems.extend(more))
                .ok()?;
            Some((route, Arc::new(rule), filters))
        })
        .collect();
    let mut routers = Named::default();
    let of_http = |listener: &&model::Listener| listener.protocol == model::ListenerProtocol::Http;
    for listener in config.listeners.iter().filter(of_http) {
        let listener_filters = build_filters(&listener.filters, problems);
        let mut routes = Vec::new();
        let of_listener = prepared.iter().filter(|(route, ..)| belongs(route, listener));
        for (settings, rule, route_filters) in of_listener {
            let mut route = Route::new((*settings).clone(), rule.clone());
            route.filters = in_order([&gateway_filters, &listener_filters, route_filters]);
            let bindings = [&config.gateway.plugins, &listener.plugins, &settings.plugins];
            bind(&mut route, bindings, (plugins, &conditions), problems);
            let identified = listener.tls.as_ref().is_some_and(|tls| tls.client_identity.is_some());
            route.by_certificate = identified && !route.authenticates();
            route.carries_grpc = carries_grpc(config, &route);
            streams::check(&route, bindings, plugins, problems);
            routes.push(Arc::new(route));
        }
        match Router::new(routes) {
            Ok(router) => {
                let common = in_order([&gateway_filters, &listener_filters, &Vec::new()]);
                let observers = observers([&config.gateway.plugins, &listener.plugins], plugins);
                let router = router.with_common_filters(common).with_common_observers(observers);
                routers.insert(listener.name.clone(), router);
            }
            Err(more) => more.into_iter().for_each(|problem| note_once(problem, problems)),
        }
    }
    routers
}

/// Whether every upstream that may get the requests of a route speaks HTTP/2: those of the route, those that a plugin of
/// the routing contract may choose instead, and their fallbacks.
fn carries_grpc(config: &Config, route: &Route) -> bool {
    let model::Action::Forward(forward) = &route.config.action else { return false };
    let speaks = |upstream: &model::Upstream| upstream.protocol == model::UpstreamProtocol::Http2;
    let mut fallbacks = config.upstreams.values().filter_map(|upstream| upstream.fallback.as_ref());
    if !route.routing.is_empty()
        || !route.routing_by_body.is_empty()
        || fallbacks.any(|fallback| fallback.upstream.is_some())
    {
        return config.upstreams.values().all(speaks);
    }
    forward.upstreams.iter().all(|(name, _)| config.upstreams.get(name).is_some_and(speaks))
}
/// The compiled conditions of bindings, by name.
type Conditions<'c> = BTreeMap<&'c str, Arc<When>>;

/// The conditions of every binding that has some.
fn conditions<'c>(config: &'c Config, problems: &mut Problems) -> Conditions<'c> {
    let mut conditions = BTreeMap::new();
    for (name, binding) in &config.bindings {
        match When::compile(name, binding) {
            Ok(when) => conditions.extend(when.map(|when| (name.as_str(), Arc::new(when)))),
            Err(more) => problems.extend(more),
        }
    }
    conditions
}

/// Whether a listener has the requests of a route.
pub(super) fn belongs(route: &model::Route, listener: &model::Listener) -> bool {
    let takes_requests =
        listener.protocol == model::ListenerProtocol::Http && !matches!(route.action, model::Action::Tcp(_));
    takes_requests && (route.listeners.is_empty() || route.listeners.contains(&listener.name))
}

/// Each combination of listener, route and, if the route forwards, upstream that requests take unless a plugin
/// chooses another.
pub(super) fn ways(config: &Config) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
    config.listeners.iter().flat_map(|listener| {
        let routes = config.routes.iter().filter(|route| belongs(route, listener));
        routes.flat_map(|route| {
            let upstreams = match &route.action {
                model::Action::Forward(forward) => &forward.upstreams[..],
                _ => &[],
            };
            let asked = upstreams.iter().map(|(upstream, _)| Some(upstream.as_str()));
            asked.chain([None]).map(|upstream| (listener.name.as_str(), route.name.as_str(), upstream))
        })
    })
}

/// Adds a problem once: a route of several listeners would report it several times.
pub(super) fn note_once(problem: Problem, problems: &mut Problems) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

fn build_filters(filters: &[model::Filter], problems: &mut Problems) -> Vec<StagedFilter> {
    let mut built = Vec::new();
    for filter in filters {
        match FILTERS.iter().position(|row| row.kind == filter.kind) {
            Some(row) => match (FILTERS[row].build)(&filter.settings) {
                Ok(made) => built.push((FILTERS[row].place, row, Arc::from(made))),
                Err(more) => problems.extend(more),
            },
            None => problems.push(unknown_filter(filter)),
        }
    }
    built
}

fn unknown_filter(filter: &model::Filter) -> Problem {
    let kinds: Vec<&str> = FILTERS.iter().map(|row| row.kind).collect();
    Problem {
        message: format!("there is no filter `{}`", filter.kind),
        span: filter.settings.spans.get("").cloned(),
        key: filter.settings.key.clone(),
        hint: Some(format!("filters are {}", kinds.join(", "))),
    }
}

/// Sorts by stage, then by row of the table, then as listed: gateway, listener, route.
fn in_order(scopes: [&Vec<StagedFilter>; 3]) -> Vec<(Stage, Arc<dyn Filter>)> {
    let mut filters: Vec<&StagedFilter> = scopes.into_iter().flatten().collect();
    filters.sort_by_key(|(place, row, _)| (*place, *row));
    filters.into_iter().map(|(place, _, filter)| (*place, filter.clone())).collect()
}

/// The bindings of gateway and listener that observe, each once.
fn observers(scopes: [&Vec<String>; 2], plugins: &BTreeMap<String, Arc<dyn Binding>>) -> Observers {
    let names: BTreeSet<&String> = scopes.into_iter().flatten().collect();
    let bound = names.into_iter().filter_map(|name| plugins.get(name));
    bound.filter_map(|plugin| Arc::clone(plugin).observer()).collect()
}

/// Sorts the bindings of gateway, listener and route into their phases, each once, at its first position.
fn bind(
    route: &mut Route,
    scopes: [&Vec<String>; 3],
    (plugins, conditions): (&BTreeMap<String, Arc<dyn Binding>>, &Conditions<'_>),
    problems: &mut Problems,
) {
    let mut bound: Vec<&str> = Vec::new();
    for name in scopes.into_iter().flatten() {
        if bound.contains(&name.as_str()) {
            continue;
        }
        bound.push(name);
        let Some(plugin) = plugins.get(name) else {
            let problem = Problem {
                message: format!("binding `{name}` is not in service"),
                span: None,
                key: format!("bindings.{name}"),
                hint: Some("declare it under `[bindings]`".into()),
            };
            note_once(problem, problems);
            continue;
        };
        route.bind(plugin, conditions.get(name.as_str()));
    }
}
