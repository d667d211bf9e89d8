//! `[[routes]]`: what is done with which requests.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cache::RouteCache;
use super::condition::{Condition, header_conditions, named_conditions};
use super::filter::{self, Filter};
use super::grpc::{BridgedProtocol, GrpcMatch, Transcode};
use super::mirror::Mirror;
use super::one_or_many::{OneOrMany, either};
use super::publish::Publish;
use super::retry::RouteRetry;
use super::route_action::{self, Redirect, Respond, StripPrefix};
use super::{Scope, Section, tcp};
use crate::model;
use crate::pointer::child;
use crate::scalar::{
    CallerPattern, DurationOrOff, HostPattern, Method, PathPattern, PathPrefix, PathTemplate, Size, Text,
};

/// What is done with which requests. All conditions that are set must hold; of several routes that match, the most
/// specific one is taken. One of `upstream`, `upstreams`, `redirect`, `respond` and `publish` says what is done.
///
/// A route with `sni` or `alpn`, or of listeners with `protocol = "tcp"`, takes connections instead: see
/// [TCP and TLS passthrough](../tcp.md). It has no other keys than `name`, `listeners`, `sni`, `alpn`, `upstream`,
/// `upstreams` and `timeout`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Route {
    /// A unique name, for logs and metrics. Without it, a name is made from methods, host and path.
    #[schemars(length(min = 1, max = 128))]
    name: Option<String>,
    /// Names of the listeners this route belongs to. Without it, all.
    listeners: Option<OneOrMany<String>>,
    /// The server name (SNI) of a connection: exact (`"db.example.com"`), or with `*` for its first label. Without it, any or
    /// none. The TLS of the client is passed through to the upstream, except on a listener for TCP that has `tls`.
    sni: Option<OneOrMany<Text<HostPattern>>>,
    /// The application protocol (ALPN) of a connection, of which the client offers several: one or a list, of which it must
    /// offer one. Without it, any or none.
    alpn: Option<OneOrMany<String>>,
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
    /// The calls of gRPC that the route is for, by service and method, in place of `path` and `prefix`.
    grpc: Option<GrpcMatch>,
    /// The protocols whose calls are translated to gRPC for the upstream, which must speak `http2`: `grpc-web`, `connect`.
    grpc_bridge: Vec<BridgedProtocol>,
    /// Translates requests with JSON to calls of gRPC, by the annotations `google.api.http` of the methods.
    transcode: Option<Transcode>,
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
    /// The callers that may use the route, of those whose identity is known: SPIFFE ids
    /// (`"spiffe://prod.example/billing"`, `"spiffe://prod.example/*"`), which only the native authentication by client
    /// certificate establishes (`client_identity` of the listener), subjects as any authentication gives them, or `"*"`.
    /// Others get 403. Without it, everybody whom `auth` admits.
    allow: Vec<Text<CallerPattern>>,
    /// The callers that may not use the route, in the same form. `deny` is stronger than `allow`.
    deny: Vec<Text<CallerPattern>>,
    /// Whether refusals by `allow` and `deny` only go to the access log while the requests
    /// pass: for trying out a rule.
    dry_run: bool,
    /// Time for the whole request, until the end of the response, or for the whole connection, or `"off"`. The default is `"off"`: streams and
    /// downloads may take long, and the timeouts of the upstream end requests that make no progress.
    timeout: Option<Text<DurationOrOff>>,
    /// Bytes of a request body (of gRPC: of each message), in place of the listener's limit. 0 means unlimited.
    body_limit: Option<Text<Size>>,
    /// Whether runs of slashes in the path become one slash (the default). `false` is for services such as object stores,
    /// to which `/a//b` and `/a/b` are two things: plugins, filters and the upstream get the path with all its slashes.
    /// Routes are still chosen by the merged path, so that no spelling leads around a route; a route whose own path does
    /// not match the unmerged one gets the merged one.
    merge_slashes: Option<bool>,
    /// A shared cache for the responses of this route, which needs an upstream.
    cache: Option<RouteCache>,
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
        if let Some(listeners) = tcp::listeners(&listeners, at, scope) {
            return self.of_connections(listeners, at, scope);
        }
        let action = route_action::meant(
            route_action::Keys {
                upstream: self.upstream.take(),
                upstreams: self.upstreams.take(),
                rewrite: self.rewrite.take(),
                strip_prefix: self.strip_prefix.take(),
                preserve_host: self.preserve_host,
                retry: self.retry.take(),
                mirror: self.mirror.take(),
                grpc_bridge: std::mem::take(&mut self.grpc_bridge),
                transcode: self.transcode.take(),
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
        let (name, auth) = (self.name(at, scope), self.auth);
        let timeout = self.timeout(at, scope);
        let cache = self.cache.take().map(|cache| cache.meant(&child(at, "cache"), scope));
        let merge_slashes = self.merge_slashes.unwrap_or(true);
        let callers = self.callers(at, scope);
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
            callers,
            timeout,
            body_bytes,
            merge_slashes,
            cache,
        })
    }
}

impl Route {
    fn callers(&mut self, at: &str, scope: &mut Scope) -> model::Callers {
        let meant =
            |patterns: Vec<Text<CallerPattern>>| patterns.into_iter().map(|pattern| pattern.value).collect();
        let callers = model::Callers {
            allow: meant(std::mem::take(&mut self.allow)),
            deny: meant(std::mem::take(&mut self.deny)),
            dry_run: self.dry_run,
        };
        if callers.dry_run && callers.allow.is_empty() && callers.deny.is_empty() {
            let hint = Some("set `allow` or `deny`".to_owned());
            scope.report_key(&child(at, "dry_run"), "`dry_run` has nothing to try out", hint);
        }
        callers
    }

    fn name(&mut self, at: &str, scope: &mut Scope) -> Option<String> {
        if self.name.as_ref().is_some_and(|name| name.chars().any(char::is_control)) {
            scope.report(&child(at, "name"), "a name has no control characters", None);
        }
        self.name.take()
    }

    fn timeout(&mut self, at: &str, scope: &mut Scope) -> Option<std::time::Duration> {
        let timeout = self.timeout.take().and_then(|timeout| timeout.value.0);
        timeout.map(|timeout| scope.check_positive(at, "timeout", timeout))
    }

    /// A route that takes connections, of these listeners.
    fn of_connections(mut self, listeners: Vec<String>, at: &str, scope: &mut Scope) -> Option<model::Route> {
        let (name, timeout) = (self.name(at, scope), self.timeout(at, scope));
        let keys =
            tcp::Keys { sni: self.sni, alpn: self.alpn, upstream: self.upstream, upstreams: self.upstreams };
        let action = tcp::meant(keys, at, scope)?;
        let derived = match &action {
            model::Action::Tcp(forward) => tcp::derived_name(forward),
            _ => return None,
        };
        Some(model::Route {
            name: name.unwrap_or(derived),
            matches: model::RouteMatch::default(),
            action,
            listeners,
            plugins: Vec::new(),
            filters: Vec::new(),
            auth: model::Auth::Optional,
            callers: model::Callers::default(),
            cache: None,
            timeout,
            body_bytes: None,
            merge_slashes: true,
        })
    }

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
        scope.exclude(at, &["path", "prefix", "grpc"]);
        scope.exclude(at, &["host", "hosts"]);
        scope.exclude(at, &["method", "methods"]);
        let prefix = self.prefix.map(|prefix| model::PathMatch::Prefix(prefix.value.0));
        let (of_calls, grpc) = self.grpc.map_or((None, None), GrpcMatch::meant);
        model::RouteMatch {
            grpc,
            hosts: either(self.host, self.hosts).into_iter().map(|host| host.value.0).collect(),
            path: self.path.map(|path| path.value.matches).or(prefix).or(of_calls),
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
