//! `[gateway]`: settings of the gateway as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compile::Compile;
use super::filter::{self, Filter};
use super::limits::Limits;
use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, HeaderName, Net, Scalar, Size, Text};

/// The least and the most that `body_memory` may be: 1 MiB and 1 TiB.
const BODY_MEMORY: (u64, u64) = (1 << 20, 1 << 40);

/// Settings of the gateway as a whole.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gateway {
    /// Worker threads, one runtime each. Without it, one for each core.
    #[schemars(range(min = 1, max = 1024))]
    workers: Option<usize>,
    /// The zone of the gateway, e.g. `"eu-central-1a"`, best written as `"${ZONE}"`. Endpoints with the same
    /// `zone` are preferred.
    #[schemars(length(min = 1))]
    zone: Option<String>,
    /// Addresses and networks of the proxies in front of the gateway. `Forwarded` and `X-Forwarded-*` headers are
    /// accepted only from these; those of any other peer are replaced.
    trusted_proxies: Vec<Text<Net>>,
    /// Time between the failing of `/readyz` and the closing of the listeners, for load balancers to notice.
    drain_delay: Text<Duration>,
    /// Time for requests in flight after the listeners are closed.
    drain_timeout: Text<Duration>,
    /// Time that a connection may be idle while the gateway drains, so that a request that is already on its way
    /// is not lost. The next response says `Connection: close`. At most half of `drain_timeout`; without this key,
    /// half of a `drain_timeout` that is shorter than 10s.
    drain_idle: Text<Duration>,
    /// The folder that is watched for plugins. The files of plugins are looked up here.
    #[schemars(length(min = 1))]
    plugin_folder: String,
    /// Where compiled plugins and the last good sets of discovered endpoints are kept between starts, or `"off"`. Without it, the user's cache folder
    /// (`$CACHE_DIRECTORY`, `$XDG_CACHE_HOME/witgate` or `~/.cache/witgate`). It must belong to the gateway's user alone.
    #[schemars(length(min = 1))]
    cache_folder: Option<String>,
    /// Limits on compiling one plugin.
    compile: Compile,
    /// Whether a plugin that cannot be loaded keeps the gateway from starting (`strict`), or the `on_failure` of its
    /// bindings applies until it loads (`degraded`).
    start: Start,
    /// Whether it is intended that a configuration has no route or no listener, or that a file contains nothing.
    /// Without this, a gateway without a route does not start, and a reload is refused that would remove all
    /// routes, close every configured listener, or read a file that was emptied: the file may have been truncated
    /// by mistake, or be about to be written. With this, there is no default listener if none is configured.
    allow_empty: bool,
    /// Headers that carry the identity of the caller to upstreams: a table from header names to `"subject"`,
    /// `"binding"` (the name of the binding that recognised the caller) or `"claim:NAME"`. They are removed from
    /// every client request, on every route.
    identity_headers: BTreeMap<String, String>,
    /// Bindings (or plugins, with default settings) that apply to every request.
    plugins: Vec<String>,
    /// Filters that apply to every request.
    filters: Vec<Filter>,
    /// What is done with paths that contain `%2F`, `%5C` or a backslash: 400 (`refuse`), or kept encoded as an
    /// ordinary character (`opaque`).
    encoded_slashes: EncodedSlashes,
    /// Whether header names with underscores are accepted. Many frameworks treat `x_user` and `x-user` as the same
    /// name. Those that could be taken for identity headers or forwarding headers are removed in any case.
    underscores_in_headers: bool,
    /// The state in which the draws of rate-limiting plugins are counted, by its name under `[state]`. Without it, a built-in
    /// state of kind `memory`.
    counter: Option<String>,
    /// Secrets that all gateways of a fleet share, at most 4, each of at least 32 bytes and best written as
    /// `"${file:/run/secrets/witgate}"`. Names in a shared state are written with the first and read with all. To change
    /// the secret, append the new one on every gateway, then move it to the front, and remove the old one when what was
    /// stored under it has expired. A state that several gateways share needs one.
    #[schemars(length(max = 4))]
    secret: Vec<String>,
    /// Limits on what clients may send, for listeners that do not set their own.
    limits: Limits,
    /// Bytes of request bodies that are kept in memory at one time, over all cores, listeners and upstreams: to send them
    /// again (`retry`, `hedge`), to copy them (`mirror`), or to show them to a plugin as a whole. While so many are, further
    /// bodies are sent once and are not copied, and a body that a plugin has to see as a whole is answered with 503 and
    /// `Retry-After`.
    body_memory: Text<Size>,
}

/// Whether a plugin that cannot be loaded keeps the gateway from starting.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Start {
    Strict,
    Degraded,
}

/// What is done with paths that contain an encoded slash or backslash.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum EncodedSlashes {
    Refuse,
    Opaque,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            workers: None,
            zone: None,
            trusted_proxies: Vec::new(),
            drain_delay: Text::of("0s"),
            drain_timeout: Text::of("30s"),
            drain_idle: Text::of("5s"),
            plugin_folder: "plugins".to_owned(),
            cache_folder: None,
            compile: Compile::default(),
            start: Start::Strict,
            allow_empty: false,
            identity_headers: BTreeMap::from([("x-auth-subject".to_owned(), "subject".to_owned())]),
            plugins: Vec::new(),
            filters: Vec::new(),
            encoded_slashes: EncodedSlashes::Refuse,
            underscores_in_headers: false,
            counter: None,
            secret: Vec::new(),
            limits: Limits::default(),
            body_memory: Text::of("256MiB"),
        }
    }
}

/// Bytes of the shortest secret: as many as the keys that are derived from it.
const SHORTEST_SECRET: usize = 32;

/// The secrets of the fleet. A line break at the end, which editors write into files, is no part of one.
fn secrets(written: &[String], at: &str, scope: &mut Scope) -> Vec<model::Secret> {
    let mut secrets: Vec<model::Secret> = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let at = child(at, &index.to_string());
        let secret = model::Secret::new(text.trim_end_matches(['\r', '\n']).as_bytes());
        if secret.bytes().len() < SHORTEST_SECRET {
            let hint = Some("make one with `openssl rand -hex 32`".to_owned());
            scope.report(&at, format!("the secret has fewer than {SHORTEST_SECRET} bytes"), hint);
        } else if secrets.contains(&secret) {
            scope.report(&at, "this secret is in the list twice", None);
        } else {
            secrets.push(secret);
        }
    }
    secrets
}

impl Section for Gateway {
    type Meant = model::Gateway;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Gateway> {
        scope.check_bindings(&child(at, "plugins"), &self.plugins);
        scope.check_state(&child(at, "counter"), self.counter.as_deref());
        scope.check_size(at, "body_memory", self.body_memory.value.0, BODY_MEMORY);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Some(model::Gateway {
            workers: self.workers.unwrap_or_else(cores),
            zone: self.zone,
            trusted_proxies: self.trusted_proxies.into_iter().map(|net| net.value.0).collect(),
            drain_delay: self.drain_delay.value.0,
            drain_timeout: self.drain_timeout.value.0,
            drain_idle: drain_idle(self.drain_idle.value.0, self.drain_timeout.value.0, at, scope),
            plugin_folder: scope.path(&child(at, "plugin_folder"), &self.plugin_folder),
            cache_folder: match self.cache_folder.as_deref() {
                Some("off") => None,
                Some(folder) => Some(scope.path(&child(at, "cache_folder"), folder)),
                None => default_cache_folder(&|name| std::env::var_os(name)),
            },
            compile: self.compile.meant(&child(at, "compile"), scope)?,
            start: match self.start {
                Start::Strict => model::Start::Strict,
                Start::Degraded => model::Start::Degraded,
            },
            allow_empty: self.allow_empty,
            identity_headers: identity_headers(self.identity_headers, &child(at, "identity_headers"), scope),
            plugins: self.plugins,
            filters: filter::all(&self.filters, &child(at, "filters"), scope),
            counter: self.counter,
            secrets: secrets(&self.secret, &child(at, "secret"), scope),
            limits: self.limits.meant(&child(at, "limits"), scope)?,
            encoded_slashes: match self.encoded_slashes {
                EncodedSlashes::Refuse => model::EncodedSlashes::Refuse,
                EncodedSlashes::Opaque => model::EncodedSlashes::Opaque,
            },
            underscores_in_headers: self.underscores_in_headers,
            body_memory: self.body_memory.value.in_memory(),
        })
    }
}

/// Listeners that drain last begin to drain after the others, so the idle times of both must fit into the one
/// timeout.
fn drain_idle(
    idle: std::time::Duration,
    timeout: std::time::Duration,
    at: &str,
    scope: &mut Scope,
) -> std::time::Duration {
    let (most, key) = (timeout / 2, child(at, "drain_idle"));
    if idle > most && scope.is_written(&key) {
        scope.report(
            &key,
            format!("`drain_idle` must be at most half of `drain_timeout`, which is {timeout:?}"),
            Some(format!("shorten it to {most:?} or less, or lengthen `drain_timeout`")),
        );
    }
    idle.min(most)
}

/// The user's cache folder. systemd sets `$CACHE_DIRECTORY`.
fn default_cache_folder(variable: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    folder("CACHE_DIRECTORY")
        .or_else(|| folder("XDG_CACHE_HOME").map(|folder| folder.join("witgate")))
        .or_else(|| folder("HOME").map(|folder| folder.join(".cache/witgate")))
}

/// Headers with a fixed meaning: an identity in them would break the message or be mistaken for something else.
const NO_IDENTITY_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

fn identity_headers(
    written: BTreeMap<String, String>,
    at: &str,
    scope: &mut Scope,
) -> BTreeMap<String, model::IdentitySource> {
    let mut headers = BTreeMap::new();
    for (name, source) in written {
        let at = child(at, &name);
        let name = match HeaderName::read(&name) {
            Ok(HeaderName(name)) => name,
            Err(why) => {
                scope.report_key(&at, format!("expected {}: {why}", HeaderName::WHAT), None);
                continue;
            }
        };
        if NO_IDENTITY_HEADERS.contains(&name.as_str()) {
            scope.report_key(
                &at,
                format!("`{name}` cannot carry an identity"),
                Some("choose a name of your own, such as `x-auth-subject`".to_owned()),
            );
        }
        let source = match source.split_once(':') {
            None if source == "subject" => model::IdentitySource::Subject,
            None if source == "binding" => model::IdentitySource::Binding,
            Some(("claim", claim)) if !claim.is_empty() => model::IdentitySource::Claim(claim.to_owned()),
            _ => {
                scope.report(&at, "expected \"subject\", \"binding\" or \"claim:NAME\"", None);
                continue;
            }
        };
        if headers.insert(name.clone(), source).is_some() {
            scope.report_key(&at, format!("`{name}` is set twice; header names are case-insensitive"), None);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn idle_connections_have_at_most_half_of_the_drain() {
        for (written, expected) in
            [("", 5000), ("drain_timeout = \"4s\"", 2000), ("drain_idle = \"1s\"", 1000)]
        {
            let text = format!("[gateway]\n{written}\n");
            let loaded =
                crate::parse_str(&text).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
            assert_eq!(loaded.config.gateway.drain_idle, Duration::from_millis(expected), "{written}");
        }
        assert!(crate::parse_str("[gateway]\ndrain_timeout = \"4s\"\ndrain_idle = \"3s\"\n").is_err());
    }
}
