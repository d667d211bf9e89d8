//! Chooses the route of a request, by specificity.
//!
//! All conditions of a route must hold. Of several routes whose conditions hold, the most specific is taken; the
//! order in which routes are written decides only between routes that are equally specific. Compared in this
//! order:
//!
//! 1. **Host**: exact, then a wildcard (`*.example` stands for exactly one label), then any host.
//! 2. **Path**, segment by segment from the left: a literal, then `{parameter}` (one segment that is not empty),
//!    then `{*tail}` (a slash and anything, also nothing after it), then a prefix; a path that ends where the
//!    pattern ends comes before a prefix that ends there. So of two prefixes the longer comes first.
//! 3. **Method**: a route that names the method, then (for `HEAD`) one that names `GET`, then one for any method.
//! 4. **Conditions**: more header and query conditions come before fewer.
//! 5. **Order written**.
//!
//! Two routes that differ only in the order written, with equal conditions, are refused when the router is built:
//! the second could never be taken.
//!
//! A CORS preflight (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) takes the route that names
//! `OPTIONS`, else the route of the method that it announces, whose CORS filter may respond to it.
//!
//! Paths are split into segments before they are percent-decoded, so an encoded slash is an ordinary character.
//!
//! A search takes as many steps as the path has segments, however many routes there are.

mod condition;
mod host_trees;
mod overlap;
mod pattern;
mod route;
pub mod tcp;
mod template;
#[cfg(test)]
mod tests;
mod tree;
pub mod when;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use witgate_config::{Problem, Problems};
use witgate_exchange::contracts::Observers;
use witgate_exchange::head::RequestHead;

use crate::filters::{Filter, Filters, Preflight, Stage};
pub(crate) use condition::FieldConditions;
use condition::{Question, Unmet, acceptable_methods};
use host_trees::HostTrees;
pub(crate) use overlap::Binds;
pub(crate) use pattern::{Pattern, decode};
pub(crate) use route::Rule;
pub use route::{Conditional, Route};
pub(crate) use template::{Template, single_slash};
pub(crate) use when::When;

/// The result of a search.
pub enum Found {
    /// A route, with its path parameters.
    Route(Arc<Route>, Vec<(Arc<str>, String)>),
    /// Routes match the path, but only for these methods (the value of `Allow`).
    OtherMethods(Vec<String>),
    /// No route matches.
    Nothing,
}

/// A route that was compared with a request, and the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// Name of the route.
    pub route: Arc<str>,
    /// Why the route was taken or not.
    pub verdict: Verdict,
}

/// Why a route whose host and path match was taken or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This route is taken.
    Taken,
    /// Its conditions hold, but another route is more specific.
    LessSpecific,
    /// It is for other methods.
    OtherMethod,
    /// The condition on this header does not hold.
    Header(String),
    /// The condition on this query parameter does not hold.
    Query(String),
    /// The condition on service and method of gRPC does not hold.
    GrpcMethod,
}

/// The routes of one listener.
pub struct Router {
    places: HostTrees<Leaf>,
    /// How preflights are recognised, if a filter of any of the routes answers them.
    preflight: Option<Preflight>,
    /// The filters of responses to requests that have no route.
    common_filters: Arc<Filters>,
    /// Who observes requests that have no route; `None`: nobody.
    common_observers: Option<Observers>,
}

/// The routes of one host and path, the most specific first.
#[derive(Default)]
struct Leaf {
    routes: Vec<Arc<Route>>,
}

impl Router {
    /// Builds the router of a listener.
    ///
    /// # Errors
    /// A problem for each pair of routes of which the second could never be taken.
    pub fn new(routes: Vec<Arc<Route>>) -> Result<Self, Problems> {
        let preflight = routes.iter().find_map(|route| route.preflight());
        let mut router = Router {
            places: HostTrees::default(),
            preflight,
            common_filters: Arc::new([]),
            common_observers: None,
        };
        for route in &routes {
            router.insert(route);
        }
        let mut clashes = BTreeMap::new();
        router.places.for_each_mut(&mut |leaf| leaf.settle(&mut clashes));
        if clashes.is_empty() { Ok(router) } else { Err(clashes.into_values().collect()) }
    }

    /// Sets the filters of gateway and listener, which hold for requests without a route as well.
    pub(crate) fn with_common_filters(mut self, filters: Vec<(Stage, Arc<dyn Filter>)>) -> Self {
        self.common_filters = filters.into();
        self
    }

    /// Sets the observers of gateway and listener, which see requests without a route as well.
    pub(crate) fn with_common_observers(mut self, observers: Observers) -> Self {
        self.common_observers = Some(observers).filter(|observers| !observers.is_empty());
        self
    }

    /// Who observes requests that have no route.
    pub(crate) fn common_observers(&self) -> Option<&Observers> {
        self.common_observers.as_ref()
    }

    /// The filters of gateway and listener.
    pub(crate) fn common_filters(&self) -> &Arc<Filters> {
        &self.common_filters
    }

    fn insert(&mut self, route: &Arc<Route>) {
        let hosts = &route.config.matches.hosts;
        self.places.place(hosts, &route.rule.pattern, |leaf| leaf.routes.push(route.clone()));
    }

    /// The route that a request takes: that of the request it asks about, if it is a preflight which that route
    /// answers, or else the most specific for its own head.
    pub fn route(&self, head: &RequestHead) -> Found {
        let about = self.preflight.and_then(|preflight| preflight(head));
        let asked = about.map(|method| self.find(&RequestHead { method, ..head.clone() }));
        match asked {
            Some(Found::Route(route, parameters)) if route.preflight().is_some() => {
                Found::Route(route, parameters)
            }
            _ => self.find(head),
        }
    }

    /// Finds the most specific route for a head.
    pub fn find(&self, head: &RequestHead) -> Found {
        let question = Question::of(head);
        let mut methods = Vec::new();
        let mut found = None;
        let _ = self.places.visit(question.host, question.path, &mut |leaf, captured| match leaf
            .find(&question, &mut methods)
        {
            Some(route) => {
                found = Some((route.clone(), route.parameters(captured)));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        });
        match found {
            Some((route, parameters)) => Found::Route(route, parameters),
            None if methods.is_empty() => Found::Nothing,
            None => Found::OtherMethods(allowed(methods)),
        }
    }

    /// Every route whose host and path match, the most specific first, and why it was taken or not.
    pub fn explain(&self, head: &RequestHead) -> Vec<Considered> {
        let question = Question::of(head);
        let mut considered = Vec::new();
        let _ = self.places.visit(question.host, question.path, &mut |leaf, _| {
            leaf.explain(&question, &mut considered);
            ControlFlow::Continue(())
        });
        considered
    }
}

impl Leaf {
    /// Sorts the routes by specificity, and finds those that could never be taken.
    fn settle(&mut self, clashes: &mut BTreeMap<(usize, usize), Problem>) {
        self.routes.sort_by_key(|route| {
            let conditions = &route.rule.conditions;
            (conditions.methods.is_empty(), Reverse(conditions.count()), route.rule.position)
        });
        let any = [String::new()];
        let mut seen: HashMap<(&str, &str), &Arc<Route>> = HashMap::new();
        for route in &self.routes {
            let conditions = &route.rule.conditions;
            let methods = if conditions.methods.is_empty() { &any[..] } else { &conditions.methods };
            for method in methods {
                match seen.get(&(method.as_str(), conditions.key.as_str())) {
                    Some(first) if !Arc::ptr_eq(first, route) => {
                        let pair = (first.rule.position, route.rule.position);
                        clashes.entry(pair).or_insert_with(|| clash(first, route, method));
                    }
                    Some(_) => {}
                    None => {
                        seen.insert((method, &conditions.key), route);
                    }
                }
            }
        }
    }

    /// The first route whose conditions hold. Collects in `methods` the methods of routes that fail only by the
    /// method.
    fn find(&self, question: &Question<'_>, methods: &mut Vec<String>) -> Option<&Arc<Route>> {
        let holds = |route: &&Arc<Route>| route.rule.conditions.unmet(question).is_none();
        let acceptable = acceptable_methods(question);
        let named = acceptable.into_iter().flatten().find_map(|method| {
            let takes = |route: &&Arc<Route>| route.rule.conditions.methods.iter().any(|name| name == method);
            self.routes.iter().filter(takes).find(holds)
        });
        let any = || self.routes.iter().filter(|route| route.rule.conditions.methods.is_empty()).find(holds);
        let found = named.or_else(any);
        if found.is_none() {
            let others = self.routes.iter().filter(holds);
            methods.extend(others.flat_map(|route| route.rule.conditions.methods.iter().cloned()));
        }
        found
    }

    fn explain(&self, question: &Question<'_>, considered: &mut Vec<Considered>) {
        let decided = considered.iter().any(|earlier| earlier.verdict == Verdict::Taken);
        let taken = self.find(question, &mut Vec::new()).filter(|_| !decided);
        for route in &self.routes {
            let acceptable = route.rule.conditions.admits_method(question);
            let verdict = match route.rule.conditions.unmet(question) {
                _ if taken.is_some_and(|taken| Arc::ptr_eq(taken, route)) => Verdict::Taken,
                _ if !acceptable => Verdict::OtherMethod,
                Some(Unmet::Header(name)) => Verdict::Header(name),
                Some(Unmet::Query(name)) => Verdict::Query(name),
                Some(Unmet::Method) => Verdict::GrpcMethod,
                None => Verdict::LessSpecific,
            };
            considered.push(Considered { route: route.name.clone(), verdict });
        }
    }
}

impl<'a> Question<'a> {
    fn of(head: &'a RequestHead) -> Self {
        Question {
            method: &head.method,
            host: head.host(),
            path: head.path(),
            query: head.query(),
            headers: &head.headers,
        }
    }
}

/// The value of `Allow`: sorted, without duplicates, with `HEAD` wherever `GET` is.
fn allowed(mut methods: Vec<String>) -> Vec<String> {
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".into());
    }
    methods.sort();
    methods.dedup();
    methods
}

fn clash(first: &Route, second: &Route, method: &str) -> Problem {
    let requests = if method.is_empty() { "requests".into() } else { format!("{method} requests") };
    Problem {
        message: format!("route `{}` matches the same {requests} as route `{}`", second.name, first.name),
        span: None,
        key: format!("routes[{}]", second.rule.position),
        hint: Some("remove one of them, or tell them apart by host, path, method, header or query".into()),
    }
}
