//! `[[routes]]`: what is done with which requests.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::{Condition, header_conditions, named_conditions};
use super::filter::{self, Filter};
use super::mirror::Mirror;
use super::one_or_many::{OneOrMany, either};
use super::publish::Publish;
use super::retry::RouteRetry;
use super::route_action::{self, Redirect, Respond, StripPrefix};
use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{DurationOrOff, HostPattern, Method, PathPattern, PathPrefix, PathTemplate, Size, Text};

/// What is done with which requests. All conditions that are set must hold; of several routes that match, the most
/// specific one is taken. One of `upstream`, `upstreams`, `redirect`, `respond` and `publish` says what is done.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Route {
    /// A unique name, for logs and metrics. Without it, a name is made from methods, host and path.
    #[schemars(length(min = 1, max = 128))]
    name: Option<String>,
    /// Names of the listeners this route belongs to. Without it, all.
    listeners: Option<OneOrMany<String>>,
    /// The host: exact (`"api.example.com"`), or with `*` for its first label (`"*.example.com"`). Without it, any.
    host: Option<OneOrMany<Text<HostPattern>>>,
    /// Several hosts.
    hosts: Option<OneOrMany<Text<HostPattern>>>,
    /// The path: exact (`"/users"`), with parameters (`"/users/{id}"`), with a wildcard tail (`"/files/{*rest}"`), or a
    /// prefix (`"/api/*"`, which also matches `/api`). Without it, any.
    path: Option<Text<PathPattern>>,
    /// A path prefix that ends at a segment boundary: `"/api"` is the same as the path `"/api/*"`.
    prefix: Option<Text<PathPrefix>>,
    /// The method. Without it, any.
    method: Option<OneOrMany<Text<Method>>>,
    /// Several methods.
    methods: Option<OneOrMany<Text<Method>>>,
    /// Conditions on headers, by name: the exact value, or a table with one of `exact`, `prefix`, `regex`, `present`.
    headers: BTreeMap<String, Condition>,
    /// Conditions on query parameters, as for headers.
    query: BTreeMap<String, Condition>,
    /// Name of the upstream that requests are forwarded to.
    upstream: Option<String>,
    /// Several upstreams with weights, e.g. `{ stable = 90, canary = 10 }`: each request goes to one of them, in
    /// proportion to the weights.
    upstreams: Option<BTreeMap<String, u32>>,
    /// The path for the upstream, with `{name}` for parameters of the route's path.
    rewrite: Option<Text<PathTemplate>>,
    /// Removes a prefix of the path for the upstream: `true` for that of the route's path, or the prefix.
    strip_prefix: Option<StripPrefix>,
    /// Whether the upstream gets the client's `Host` (the default), or the address of the endpoint.
    preserve_host: Option<bool>,
    /// Settings in place of the upstream's `retry`.
    retry: Option<RouteRetry>,
    /// Where copies of this route's requests go.
    mirror: Option<Mirror>,
    /// Redirects: where to, or a table with `location` and `status`.
    redirect: Option<Redirect>,
    /// Responds with a fixed response.
    respond: Option<Respond>,
    /// Publishes the request as a message of a broker.
    publish: Option<Publish>,
    /// Bindings (or plugins, with default settings) of this route, in addition to those of listener and gateway.
    plugins: Vec<String>,
    /// Filters of this route, in addition to those of listener and gateway.
    filters: Vec<Filter>,
    /// Whether the caller must be authenticated if an authentication plugin applies: by one of them (`required`),
    /// not necessarily (`optional`), or by every one (`all`).
    auth: Auth,
    /// Time for the whole request, until the end of the response, or `"off"`. The default is `"off"`: streams and
    /// downloads may take long, and the timeouts of the upstream end requests that make no progress.
    timeout: Option<Text<DurationOrOff>>,
    /// Bytes of a request body (of gRPC: of each message), in place of the listener's limit. 0 means unlimited.
    body_limit: Option<Text<Size>>,
    /// Whether runs of slashes in the path become one slash (the default). `false` is for services such as object stores,
    /// to which `/a//b` and `/a/b` are two things: plugins, filters and the upstream get the path with all its slashes.
    /// Routes are still chosen by the merged path, so that no spelling leads around a route; a route whose own path does
    /// not match the unmerged one gets the merged one.
    merge_slashes: Option<bool>,
}

/// Whether the caller must be authenticated.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Auth {
    #[default]
    Required,
    Optional,
    All,
}

impl Section for Route {
    type Meant = model::Route;

    fn meant(mut self, at: &str, scope: &mut Scope) -> Option<model::Route> {
        scope.check_bindings(&child(at, "plugins"), &self.plugins);
        let listeners = self.listeners(at, scope);
        let action = route_action::meant(
            route_action::Keys {
                upstream: self.upstream.take(),
                upstreams: self.upstreams.take(),
                rewrite: self.rewrite.take(),
                strip_prefix: self.strip_prefix.take(),
                preserve_host: self.preserve_host,
                retry: self.retry.take(),
                mirror: self.mirror.take(),
                redirect: self.redirect.take(),
                respond: self.respond.take(),
                publish: self.publish.take(),
                path: self.path.as_ref().map(|path| &path.value),
                prefix: self.prefix.as_ref().map(|prefix| &prefix.value),
            },
            at,
            scope,
        );
        let (plugins, filters) =
            (std::mem::take(&mut self.plugins), filter::all(&self.filters, &child(at, "filters"), scope));
        let (name, auth) = (self.name.take(), self.auth);
        if name.as_ref().is_some_and(|name: &String| name.chars().any(char::is_control)) {
            scope.report(&child(at, "name"), "a name has no control characters", None);
        }
        let timeout = self
            .timeout
            .take()
            .and_then(|timeout| timeout.value.0)
            .map(|timeout| scope.check_positive(at, "timeout", timeout));
        let merge_slashes = self.merge_slashes.unwrap_or(true);
        let body_bytes = self.body_limit.take().map(|limit| limit.value.0);
        let matches = self.matches(at, scope);
        Some(model::Route {
            name: name.unwrap_or_else(|| derived_name(&matches)),
            matches,
            action: action?,
            listeners,
            plugins,
            filters,
            auth: match auth {
                Auth::Required => model::Auth::Required,
                Auth::Optional => model::Auth::Optional,
                Auth::All => model::Auth::All,
            },
            timeout,
            body_bytes,
            merge_slashes,
        })
    }
}

impl Route {
    fn listeners(&mut self, at: &str, scope: &mut Scope) -> Vec<String> {
        let listeners = either(self.listeners.take(), None);
        let names = super::listener::names(scope);
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        for (index, name) in listeners.iter().enumerate() {
            let list = child(at, "listeners");
            let element = child(&list, &index.to_string());
            let at = if scope.is_written(&element) { element } else { list };
            scope.check_name(
                &at,
                "listener",
                name,
                &known,
                format!("give one of the listeners this name: name = {name:?}"),
            );
        }
        listeners
    }

    fn matches(self, at: &str, scope: &mut Scope) -> model::RouteMatch {
        scope.exclude(at, &["path", "prefix"]);
        scope.exclude(at, &["host", "hosts"]);
        scope.exclude(at, &["method", "methods"]);
        let prefix = self.prefix.map(|prefix| model::PathMatch::Prefix(prefix.value.0));
        model::RouteMatch {
            hosts: either(self.host, self.hosts).into_iter().map(|host| host.value.0).collect(),
            path: self.path.map(|path| path.value.matches).or(prefix),
            methods: either(self.method, self.methods).into_iter().map(|method| method.value.0).collect(),
            headers: header_conditions(self.headers, &child(at, "headers"), scope),
            query: named_conditions(self.query, &child(at, "query"), scope),
        }
    }
}

/// A name made from what a route matches, e.g. `GET api.example.com/users/{id}`.
fn derived_name(matches: &model::RouteMatch) -> String {
    let mut name = matches.methods.join("|");
    if !name.is_empty() {
        name.push(' ');
    }
    name.push_str(&matches.hosts.join("|"));
    match &matches.path {
        Some(model::PathMatch::Pattern(pattern)) => name.push_str(pattern),
        Some(model::PathMatch::Prefix(prefix)) => {
            name.push_str(&format!("{}/*", prefix.trim_end_matches('/')))
        }
        None => name.push_str("/*"),
    }
    name
}

/// Every route. Written names must differ; derived ones are made unique.
pub(crate) fn all(scope: &mut Scope) -> Vec<model::Route> {
    let routes = scope.list::<Route>("routes");
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for (at, route) in &routes {
        let name_at = child(at, "name");
        if !scope.is_written(&name_at) {
            continue;
        }
        if let Some(first) = taken.get(&route.name).cloned() {
            scope.report_with(&name_at, format!("the name `{}` is taken", route.name), &first, "it is taken");
        } else {
            taken.insert(route.name.clone(), name_at);
        }
    }
    let mut named = Vec::new();
    for (at, mut route) in routes {
        if !scope.is_written(&child(&at, "name")) {
            let derived = route.name.clone();
            let numbered = (2usize..).map(|number| format!("{derived} #{number}"));
            let free =
                std::iter::once(derived.clone()).chain(numbered).find(|name| !taken.contains_key(name));
            route.name = free.unwrap_or(derived);
            taken.insert(route.name.clone(), at);
        }
        named.push(route);
    }
    named
}
