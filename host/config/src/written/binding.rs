//! `[bindings.NAME]`: plugins with settings, rights and budgets.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::credentials::{self, Credentials};
use super::quarantine::Quarantine;
use super::revert::Revert;
use super::when::{self, Tables};
use super::{Scope, Section};
use crate::model;
use crate::pointer::{child, segments};
use crate::scalar::{Duration, HeaderName, Name, Size, Text};
use crate::settings::Settings;

/// A plugin with settings, rights and budgets.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Binding {
    /// The plugin that is bound. Without it, the one with the binding's own name.
    plugin: Option<String>,
    /// The plugin's own settings. `witgate plugin check` shows which there are.
    settings: Map<String, Value>,
    /// The named objects that the plugin may use. Everything else is refused.
    grants: Grants,
    /// The credentials that the plugin sees only if `grants.credentials` names them; without a grant, they are invisible
    /// to it. `"granted"`: the headers `authorization`, `cookie`, `proxy-authorization` and `set-cookie`. A table adds
    /// headers and query parameters to these. Without this key, plugins of version 0.1 of the border see everything.
    credentials: Option<Credentials>,
    /// What is done with a request when a call failed: 503 (`deny`), or the request continues without the plugin
    /// (`skip`; a skipped authentication plugin recognises nobody).
    on_failure: OnFailure,
    /// Whether results may be reused without a call, for requests that agree in everything that the plugin says
    /// they depend on: acceptances of an authentication plugin for as long as it says, and results of functions
    /// that it declares pure. Remembered results are still used while the binding is in quarantine. `false`: every
    /// request makes its calls.
    remember: bool,
    /// The requests that the binding is for: those that meet all conditions of the table, or of one of several tables.
    /// The plugin is not called for others. A plugin that authenticates still applies to them, and recognises nobody.
    /// Judged once for each request, on what the client sent and, for `subject` and `claims`, on the identity that
    /// authentication found. Without it, all requests.
    when: Option<Tables>,
    /// The requests that the binding is not for: those that meet all conditions of the table, or of one of several
    /// tables. What is said of `when` applies.
    unless: Option<Tables>,
    /// Limits on one call, or one instance.
    budget: Budget,
    /// How many instances there are.
    instances: Instances,
    /// For a plugin that exports `tick`: the time between the end of a call and the next one, at least 100 ms. The first
    /// call is made when the binding goes into service.
    tick: Text<Duration>,
    /// When the binding is put in quarantine, or `"off"`: never.
    quarantine: Quarantine,
    /// When a new version of the plugin is reverted.
    revert: Revert,
}

impl Default for Binding {
    fn default() -> Self {
        Self {
            plugin: None,
            settings: Map::new(),
            grants: Grants::default(),
            credentials: None,
            on_failure: OnFailure::default(),
            remember: true,
            when: None,
            unless: None,
            budget: Budget::default(),
            instances: Instances::default(),
            tick: Text::of("1m"),
            quarantine: Quarantine::default(),
            revert: Revert::default(),
        }
    }
}

/// The named objects that the plugin may use. Everything else is refused.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Grants {
    /// Upstreams to which `fetch` may send requests. Without this key, a plugin that imports `fetch` is refused;
    /// with an empty list it is loaded and every use is denied.
    fetch: Option<Vec<String>>,
    /// Spaces of the store. Without this key, a plugin that imports `store` is refused; with an empty list it is
    /// loaded and every use is denied.
    store: Option<Vec<Text<Name>>>,
    /// Files of `[data]` that may be read. Without this key, a plugin that imports `data` is refused; with an empty
    /// list it is loaded and every use is denied.
    data: Option<Vec<String>>,
    /// Request headers whose values a plugin that exports `observe` sees. A credential among them must be named in
    /// `grants.credentials`, too.
    headers: Vec<Text<HeaderName>>,
    /// Upstreams that a routing plugin may choose.
    route_to: Vec<String>,
    /// Credentials that the plugin may see, by the names of headers and query parameters. Where `credentials` applies,
    /// a plugin that declares to look at another one is refused.
    credentials: Option<Vec<String>>,
}

/// What is done with a request when a call failed.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum OnFailure {
    #[default]
    Deny,
    Skip,
}

/// Limits on one call, or one instance.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Budget {
    /// CPU time of one call. A plugin that computes for longer is stopped, at most 15 ms later; other requests of
    /// its core wait no longer than that.
    cpu: Text<Duration>,
    /// Wall time of one call, including waits in `fetch`. A `fetch` that is still in progress 50 ms before the end
    /// (halfway, if the wall time is under 100 ms) ends with a timeout, so that the plugin can still return a
    /// result.
    wall: Text<Duration>,
    /// Linear memory of an instance.
    memory: Text<Size>,
    /// Elements of all tables of an instance together.
    #[schemars(range(min = 1, max = 10_000_000))]
    table_elements: usize,
    /// Calls of host functions during one call.
    host_calls: u32,
    /// Log lines per second, over all cores. Further lines are dropped and counted.
    log_lines: u32,
    /// Bytes a call may return.
    output: Text<Size>,
    /// Bytes of a body that is buffered or decoded for the plugin.
    body_limit: Text<Size>,
    /// Bytes of context that one call passes to the next.
    context_limit: Text<Size>,
    /// Bytes of a response to `fetch`.
    fetch_limit: Text<Size>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            cpu: Text::of("10ms"),
            wall: Text::of("1s"),
            memory: Text::of("32MiB"),
            table_elements: 20_000,
            host_calls: 10_000,
            log_lines: 100,
            output: Text::of("1MiB"),
            body_limit: Text::of("1MiB"),
            context_limit: Text::of("4KiB"),
            fetch_limit: Text::of("1MiB"),
        }
    }
}

/// How many instances there are. Each core has its own.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Instances {
    /// Instances kept ready on each core.
    #[schemars(range(max = 10_000))]
    min_idle: usize,
    /// The most instances on each core.
    #[schemars(range(min = 1, max = 10_000))]
    max: usize,
    /// How long a call may wait for an instance.
    queue_timeout: Text<Duration>,
    /// Calls that may wait on each core.
    #[schemars(range(max = 1_000_000))]
    queue: usize,
    /// Whether instances serve one call after the other (`serial`), or every request gets a new one (`fresh`).
    reuse: Reuse,
    /// Calls after which an instance is replaced.
    #[schemars(range(min = 1))]
    max_uses: u64,
}

/// Whether instances are reused.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Reuse {
    Serial,
    Fresh,
}

impl Default for Instances {
    fn default() -> Self {
        Self {
            min_idle: 1,
            max: 16,
            queue_timeout: Text::of("100ms"),
            queue: 64,
            reuse: Reuse::Serial,
            max_uses: 100_000,
        }
    }
}

impl Section for Binding {
    type Meant = model::Binding;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Binding> {
        let own_name = segments(at).last().unwrap_or_default();
        let credentials = self.credentials.map(Credentials::meant);
        match &self.plugin {
            Some(plugin) => scope.check_plugin(&child(at, "plugin"), plugin),
            None => scope.check_plugin(at, &own_name),
        }
        Some(model::Binding {
            plugin: self.plugin.unwrap_or(own_name),
            settings: scope.document.part(&child(at, "settings"), &[]),
            grants: self.grants.meant(credentials.as_ref(), &child(at, "grants"), scope),
            credentials,
            on_failure: match self.on_failure {
                OnFailure::Deny => model::OnFailure::Deny,
                OnFailure::Skip => model::OnFailure::Skip,
            },
            remember: self.remember,
            when: when::meant(self.when, &child(at, "when"), scope),
            unless: when::meant(self.unless, &child(at, "unless"), scope),
            budget: self.budget.meant(&child(at, "budget"), scope),
            instances: self.instances.meant(&child(at, "instances"), scope),
            tick: checked_tick(at, self.tick.value.0, scope),
            quarantine: self.quarantine.meant(&child(at, "quarantine"), scope),
            revert: self.revert.meant(&child(at, "revert"), scope),
        })
    }
}

/// The interval of `tick`, which must not be so short that a thread has nothing else to do.
fn checked_tick(at: &str, interval: std::time::Duration, scope: &mut Scope) -> std::time::Duration {
    if interval < SHORTEST_TICK {
        scope.report(&child(at, "tick"), "`tick` must be at least 100ms", None);
    }
    interval
}

/// The shortest interval of `tick`.
const SHORTEST_TICK: std::time::Duration = std::time::Duration::from_millis(100);

impl Grants {
    fn meant(self, listed: Option<&model::Credentials>, at: &str, scope: &mut Scope) -> model::Grants {
        let at_names = child(at, "credentials");
        for (key, names) in
            [("fetch", self.fetch.as_deref().unwrap_or_default()), ("route_to", &self.route_to)]
        {
            for (index, name) in names.iter().enumerate() {
                scope.check_upstream(&format!("{at}/{key}/{index}"), name);
            }
        }
        for (index, name) in self.data.iter().flatten().enumerate() {
            scope.check_data(&format!("{at}/data/{index}"), name);
        }
        let headers: Vec<String> = self.headers.into_iter().map(|name| name.value.0).collect();
        let granted = self.credentials.as_deref().unwrap_or_default();
        for (index, name) in headers.iter().enumerate() {
            if credentials::is_header(name, listed)
                && !granted.iter().any(|known| known.eq_ignore_ascii_case(name))
            {
                scope.report(
                    &format!("{at}/headers/{index}"),
                    format!("`{name}` is a credential, which `grants.headers` alone does not show"),
                    Some("name it in `grants.credentials` too".to_owned()),
                );
            }
        }
        model::Grants {
            data: self.data,
            headers,
            fetch: self.fetch,
            store: self.store.map(|spaces| spaces.into_iter().map(|space| space.value.0).collect()),
            route_to: self.route_to,
            credentials: self.credentials.map(|names| credentials::granted(names, listed, &at_names, scope)),
        }
    }
}

impl Budget {
    fn meant(self, at: &str, scope: &mut Scope) -> model::Budget {
        // From one page of WebAssembly memory to everything that 32 bits address.
        scope.check_size(at, "memory", self.memory.value.0, (64 << 10, 4 << 30));
        let (cpu, wall) = (self.cpu.value.0, self.wall.value.0);
        if cpu > wall {
            scope.report(
                &child(at, "cpu"),
                "the CPU budget is longer than the wall budget",
                Some("a call that computes takes wall time as well: raise `wall`".to_owned()),
            );
        }
        model::Budget {
            cpu: scope.check_positive(at, "cpu", cpu),
            wall: scope.check_positive(at, "wall", wall),
            memory: self.memory.value.in_memory(),
            table_elements: self.table_elements,
            host_calls: self.host_calls,
            log_lines: self.log_lines,
            output: self.output.value.in_memory(),
            body_limit: self.body_limit.value.in_memory(),
            context_limit: self.context_limit.value.in_memory(),
            fetch_limit: self.fetch_limit.value.in_memory(),
        }
    }
}

impl Instances {
    fn meant(self, at: &str, scope: &mut Scope) -> model::Instances {
        if self.min_idle > self.max {
            scope.report(at, "`min_idle` is more than `max`", None);
        }
        model::Instances {
            min_idle: self.min_idle,
            max: self.max,
            queue_timeout: self.queue_timeout.value.0,
            queue: self.queue,
            reuse: match self.reuse {
                Reuse::Serial => model::Reuse::Serial,
                Reuse::Fresh => model::Reuse::Fresh,
            },
            max_uses: self.max_uses,
        }
    }
}

/// Every binding, including those that exist because something refers to a plugin by its own name.
pub(crate) fn all(scope: &mut Scope) -> BTreeMap<String, model::Binding> {
    let mut bindings = scope.table::<Binding>("bindings");
    for name in scope.implicit_bindings() {
        // Nothing is written at this path, so everything has its default.
        let at = child("/bindings", &name);
        if let Some(mut binding) = Binding::default().meant(&at, scope) {
            binding.settings = Settings::unwritten(format!("bindings.{name}.settings"), Map::new());
            binding.settings.spans.extend(
                scope
                    .document
                    .nearest_span(&child("/plugins", &name))
                    .map(|span| (String::new(), span.clone())),
            );
            bindings.insert(name, binding);
        }
    }
    bindings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::parse_str;

    const PLUGIN: &str = "[plugins.p]\n[bindings.p]\n";

    #[test]
    fn tick_and_the_headers_of_observe_have_defaults_and_are_checked() {
        let parsed = |more: &str| parse_str(&format!("{PLUGIN}{more}")).map(|loaded| loaded.config);
        let binding = parsed("").unwrap().bindings.remove("p").unwrap();
        assert_eq!((binding.tick, binding.grants.headers), (Duration::from_secs(60), Vec::new()));
        let written = parsed("tick = \"100ms\"\ngrants.headers = [\"User-Agent\", \"x-a\"]\n").unwrap();
        let binding = &written.bindings["p"];
        assert_eq!(binding.tick, Duration::from_millis(100));
        assert_eq!(binding.grants.headers, ["user-agent", "x-a"]);
        for (wrong, expected) in [
            ("tick = \"99ms\"\n", "`tick` must be at least 100ms"),
            ("tick = \"0s\"\n", "`tick` must be at least 100ms"),
            ("grants.headers = [\"no header\"]\n", "a header name"),
            ("grants.headers = [\"Cookie\"]\n", "`cookie` is a credential"),
            (
                "grants = { headers = [\"x-key\"], credentials = [\"cookie\"] }\ncredentials = { headers = [\"X-Key\"] }\n",
                "`x-key` is a credential",
            ),
        ] {
            let Err(failure) = parsed(wrong) else { panic!("{wrong} is refused") };
            assert!(failure.render(false).contains(expected), "{wrong}: {}", failure.render(false));
        }
    }
}
