//! What a route does: forward, redirect, respond, or publish.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use super::grpc::{self, BridgedProtocol, Transcode};
use super::mirror::Mirror;
use super::one_or_many::OneOrMany;
use super::publish::Publish;
use super::retry::RouteRetry;
use crate::model::{self, PathMatch};
use crate::pointer::child;
use crate::scalar::{HeaderName, Location, PathPattern, PathPrefix, PathTemplate, Scalar, Text};
use crate::schema::nearest;

/// A prefix to remove.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum StripPrefix {
    Switch(bool),
    Prefix(Text<PathPrefix>),
}

/// The target of a redirect.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Redirect {
    Location(Text<Location>),
    Table(RedirectTable),
}

/// The target and status of a redirect.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedirectTable {
    /// The target: a path or URL. `{name}` stands for parameters of the route's path, `{path}` for the request's
    /// path, `{query}` for `?` and its query (nothing if there is none), `{host}` for its host without port.
    location: Text<Location>,
    /// The status. Browsers cache 301 and 308; 307 and 308 keep the method.
    #[serde(default = "default_redirect_status")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    status: u16,
}

/// Temporary, because a permanent redirect cannot be withdrawn, and keeping the method.
fn default_redirect_status() -> u16 {
    307
}

/// A fixed response.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Respond {
    /// The status, 200 to 599.
    #[schemars(range(min = 200, max = 599))]
    status: u16,
    /// Headers, each with one value or a list of them.
    headers: BTreeMap<String, OneOrMany<String>>,
    /// The body.
    body: String,
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 200, headers: BTreeMap::new(), body: String::new() }
    }
}

/// The keys of which one says what a route does.
pub(crate) const ACTIONS: [&str; 5] = ["upstream", "upstreams", "redirect", "respond", "publish"];

/// The keys that need an upstream to forward to.
pub(crate) const FORWARDING: [&str; 8] =
    ["rewrite", "strip_prefix", "preserve_host", "retry", "mirror", "cache", "grpc_bridge", "transcode"];

/// The keys of a route that say what it does, and the keys that they depend on.
pub(super) struct Keys<'r> {
    pub(crate) upstream: Option<String>,
    pub(crate) upstreams: Option<BTreeMap<String, u32>>,
    pub(crate) rewrite: Option<Text<PathTemplate>>,
    pub(crate) strip_prefix: Option<StripPrefix>,
    pub(crate) preserve_host: Option<bool>,
    pub(crate) retry: Option<RouteRetry>,
    pub(crate) mirror: Option<Mirror>,
    pub(crate) grpc_bridge: Vec<BridgedProtocol>,
    pub(crate) transcode: Option<Transcode>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) respond: Option<Respond>,
    pub(crate) publish: Option<Publish>,
    pub(crate) path: Option<&'r PathPattern>,
    pub(crate) prefix: Option<&'r PathPrefix>,
}

impl Keys<'_> {
    /// The parameters of the route's path.
    fn parameters(&self) -> Vec<&str> {
        self.path.map(|path| path.parameters.iter().map(String::as_str).collect()).unwrap_or_default()
    }
}

/// The action of a route; `None` if no key says what it does.
pub(crate) fn meant(mut keys: Keys, at: &str, scope: &mut Scope) -> Option<model::Action> {
    scope.exclude(at, &ACTIONS);
    let forwards = keys.upstream.is_some() || keys.upstreams.is_some();
    for key in FORWARDING {
        let at = child(at, key);
        // An empty list asks for nothing.
        let asks =
            scope.document.get(&at).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()));
        if !forwards && asks {
            scope.report_key(&at, format!("`{key}` needs an upstream to forward to"), None);
        }
    }
    let upstreams = forward_to(keys.upstream.take(), keys.upstreams.take(), at, scope, false);
    if !upstreams.is_empty() || forwards {
        let preserve_host = keys.preserve_host.unwrap_or(true);
        return Some(model::Action::Forward(model::Forward {
            upstreams,
            rewrite: rewrite(&mut keys, at, scope),
            preserve_host,
            retry: keys.retry.take().unwrap_or_default().meant(&child(at, "retry"), scope),
            mirror: keys.mirror.take().map(|mirror| mirror.meant(&child(at, "mirror"), scope)),
            bridge: grpc::bridge(&keys.grpc_bridge),
            transcode: keys
                .transcode
                .take()
                .map(|settings| Box::new(settings.meant(&child(at, "transcode"), scope))),
        }));
    }
    if let Some(redirect) = keys.redirect.take() {
        return Some(redirect.meant(&keys.parameters(), &child(at, "redirect"), scope));
    }
    if let Some(respond) = keys.respond.take() {
        let model::Answer { status, headers, body } = respond.answer(&child(at, "respond"), scope);
        return Some(model::Action::Respond { status, headers, body });
    }
    if let Some(publish) = keys.publish.take() {
        return Some(model::Action::Publish(publish.meant(&keys.parameters(), &child(at, "publish"), scope)));
    }
    let hint = "set one of `upstream`, `upstreams`, `redirect`, `respond` and `publish`";
    scope.report(at, "this route does not say what is done with a request", Some(hint.to_owned()));
    None
}

/// The largest weight. Sums of weights cannot overflow.
const MOST_WEIGHT: u32 = 1_000_000;

/// The upstreams with their weights. `tcp`: whether connections are sent to them, instead of requests.
pub(crate) fn forward_to(
    one: Option<String>,
    several: Option<BTreeMap<String, u32>>,
    at: &str,
    scope: &mut Scope,
    tcp: bool,
) -> Vec<(String, u32)> {
    if let Some(name) = one {
        scope.check_upstream_for(&child(at, "upstream"), &name, tcp);
        return vec![(name, 1)];
    }
    let Some(several) = several else {
        return Vec::new();
    };
    let at = child(at, "upstreams");
    for (name, weight) in &several {
        let at = child(&at, name);
        scope.check_upstream_for(&at, name, tcp);
        if *weight > MOST_WEIGHT {
            scope.report(&at, format!("expected a weight from 0 to {MOST_WEIGHT}"), None);
        }
    }
    if several.values().all(|weight| *weight == 0) {
        scope.report(&at, "at least one upstream needs a weight above 0", None);
    }
    several.into_iter().collect()
}

fn rewrite(keys: &mut Keys, at: &str, scope: &mut Scope) -> model::Rewrite {
    scope.exclude(at, &["rewrite", "strip_prefix"]);
    if let Some(template) = keys.rewrite.take() {
        let parameters = keys.parameters();
        check_parameters(&template.value.names, &parameters, &child(at, "rewrite"), scope);
        return model::Rewrite::Template(template.as_written().to_owned());
    }
    let prefix = match (keys.path, keys.prefix) {
        (Some(PathPattern { matches: PathMatch::Prefix(prefix), .. }), _)
        | (None, Some(PathPrefix(prefix))) => Some(prefix),
        _ => None,
    };
    match (keys.strip_prefix.take(), prefix) {
        (None | Some(StripPrefix::Switch(false)), _) => model::Rewrite::Keep,
        (Some(StripPrefix::Prefix(prefix)), _) => model::Rewrite::StripPrefix(prefix.value.0),
        (Some(StripPrefix::Switch(true)), Some(prefix)) => model::Rewrite::StripPrefix(prefix.clone()),
        (Some(StripPrefix::Switch(true)), None) => {
            let hint = "name the prefix: strip_prefix = \"/api\"".to_owned();
            scope.report(
                &child(at, "strip_prefix"),
                "the path of this route is not a prefix such as \"/api/*\"",
                Some(hint),
            );
            model::Rewrite::Keep
        }
    }
}

/// Checks that the path of the route has these parameters.
pub(crate) fn check_parameters(names: &[String], known: &[&str], at: &str, scope: &mut Scope) {
    for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
        let hint = match nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{{{meant}}}`?"),
            None if known.is_empty() => "the path of this route has no parameters".to_owned(),
            None => format!("known here: {}", known.join(", ")),
        };
        scope.report(at, format!("there is no parameter `{name}`"), Some(hint));
    }
}

impl Redirect {
    fn meant(self, parameters: &[&str], at: &str, scope: &mut Scope) -> model::Action {
        let (location, status, location_at) = match self {
            Self::Location(location) => (location, default_redirect_status(), at.to_owned()),
            Self::Table(table) => (table.location, table.status, child(at, "location")),
        };
        let known: Vec<&str> = parameters.iter().copied().chain(["path", "query", "host"]).collect();
        check_parameters(&location.value.names, &known, &location_at, scope);
        model::Action::Redirect { status, location: location.as_written().to_owned() }
    }
}

/// Headers of a fixed response that only the gateway sets.
const FRAMING: &[&str] =
    &["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

impl Respond {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(crate) fn answer(self, at: &str, scope: &mut Scope) -> model::Answer {
        if matches!(self.status, 204 | 205 | 304) && !self.body.is_empty() {
            scope.report(
                &child(at, "body"),
                format!("a response with status {} has no body", self.status),
                None,
            );
        }
        let mut headers = Vec::new();
        for (name, values) in self.headers {
            let at = child(&child(at, "headers"), &name);
            match HeaderName::read(&name) {
                Ok(HeaderName(name)) if FRAMING.contains(&name.as_str()) => {
                    scope.report_key(
                        &at,
                        format!("`{name}` is set by the gateway"),
                        Some("leave it out".to_owned()),
                    );
                }
                Ok(HeaderName(name)) => {
                    for value in values.into_vec() {
                        if value.chars().any(|letter| letter.is_control() && letter != '\t') {
                            scope.report(&at, "this value has a control character in it", None);
                        }
                        headers.push((name.clone(), value));
                    }
                }
                Err(why) => scope.report_key(&at, format!("expected {}: {why}", HeaderName::WHAT), None),
            }
        }
        model::Answer { status: self.status, headers, body: self.body }
    }
}
