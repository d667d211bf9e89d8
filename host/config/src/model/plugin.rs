//! Plugins and their bindings as meant.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{FieldMatch, RouteMatch, ValueMatch};
use crate::settings::Settings;

/// `[plugins.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// The component, absolute or relative to the plugin folder.
    pub file: PathBuf,
    /// The SHA-256 that the file must have; `None`: any file.
    pub digest: Option<[u8; 32]>,
    /// Bytes that its store may hold, in all spaces together.
    pub store_bytes: usize,
    /// The state in which its store is kept; `None`: the built-in one.
    pub state: Option<String>,
    /// Whether it may use a draft version of the plugin contracts.
    pub unstable: bool,
}

/// `[bindings.NAME]`: a plugin with settings, rights and budgets.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Name of the declared plugin.
    pub plugin: String,
    /// Settings that `lifecycle.configure` gets.
    pub settings: Settings,
    /// Rights to use named objects.
    pub grants: Grants,
    /// The credentials that it sees only if they are granted; `None`: what the version of the plugin border says.
    pub credentials: Option<Credentials>,
    /// What is done with a request when a call failed.
    pub on_failure: OnFailure,
    /// Whether its results may be reused without a call, where the plugin permits it.
    pub remember: bool,
    /// The requests that it is for: those for which one of these holds. Empty: all.
    pub when: Vec<Conditions>,
    /// The requests that it is not for: those for which one of these holds.
    pub unless: Vec<Conditions>,
    /// Limits on one call, or one instance.
    pub budget: Budget,
    /// How many instances there are.
    pub instances: Instances,
    /// Time between the end of a call of `tick` and the next one.
    pub tick: Duration,
    /// When it is put in quarantine; `None`: never.
    pub quarantine: Option<Quarantine>,
    /// When a new version is reverted.
    pub revert: Revert,
}

/// Conditions on a request, all of which must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conditions {
    /// What routes can have as conditions, too.
    pub request: RouteMatch,
    /// Networks of which one has the client's address; empty: any.
    pub clients: Vec<IpNet>,
    /// The condition on the subject of the caller's identity.
    pub subject: Option<ValueMatch>,
    /// Conditions on claims of the caller's identity.
    pub claims: Vec<FieldMatch>,
}

impl Conditions {
    /// Whether they depend on who the caller is, which is known only after authentication.
    pub fn names_identity(&self) -> bool {
        self.subject.is_some() || !self.claims.is_empty()
    }
}

/// Rights of a binding to use named objects. Everything else is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// Upstreams that `fetch` may use. `None`: a plugin that imports `fetch` is refused. Empty: it may import
    /// `fetch`, and every use is denied.
    pub fetch: Option<Vec<String>>,
    /// Spaces of the store. `None` and empty: as for `fetch`.
    pub store: Option<Vec<String>>,
    /// Files of `[data]` that may be read. `None` and empty: as for `fetch`.
    pub data: Option<Vec<String>>,
    /// Notes that it may read and leave. `None`: a plugin that imports `notes` is refused.
    pub notes: Option<NoteGrants>,
    /// Contracts that it may serve, by their names; `None`: those of the first version that goes into service.
    pub contracts: Option<Vec<String>>,
    /// Response headers that `observe` sees, in lower case.
    pub response_headers: Vec<String>,
    /// Request headers that `observe` sees, in lower case.
    pub headers: Vec<String>,
    /// Hosts that it may have upstreams see: exact, or with a wildcard for one leading label.
    pub upstream_hosts: Vec<String>,
    /// Upstreams the routing contract may choose.
    pub route_to: Vec<String>,
    /// Names of the credentials that it may see; headers in lower case.
    pub credentials: Option<Vec<String>>,
}

/// Notes of an exchange that a binding may read and leave, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NoteGrants {
    /// Those it may read.
    pub read: Vec<String>,
    /// Those it may leave.
    pub write: Vec<String>,
}

/// What is a credential for a binding, in addition to the headers that are credentials for every binding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// Names of headers, in lower case.
    pub headers: Vec<String>,
    /// Names of query parameters.
    pub query: Vec<String>,
}

/// What is done with a request when a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// 503, code `plugin-failed`.
    #[default]
    Deny,
    /// The request continues as if the binding were not there; an authentication plugin counts as "not mine".
    Skip,
}

/// Limits on one call, or one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// CPU time of one call.
    pub cpu: Duration,
    /// Wall time of one call, including waits in `fetch`.
    pub wall: Duration,
    /// Bytes of linear memory of an instance.
    pub memory: usize,
    /// Elements of all tables of an instance.
    pub table_elements: usize,
    /// Calls of host functions during one call.
    pub host_calls: u32,
    /// Log lines per second, over all cores.
    pub log_lines: u32,
    /// Bytes a call may return.
    pub output: usize,
    /// Bytes of a buffered or decoded body.
    pub body_limit: usize,
    /// Bytes of context that one call passes to the next.
    pub context_limit: usize,
    /// Bytes of a response to `fetch`.
    pub fetch_limit: usize,
}

/// Instances of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    /// Instances kept ready on each core.
    pub min_idle: usize,
    /// The most instances on each core.
    pub max: usize,
    /// How long a call may wait for one.
    pub queue_timeout: Duration,
    /// Calls that may wait on each core.
    pub queue: usize,
    /// Whether instances are reused.
    pub reuse: Reuse,
    /// Calls after which an instance is replaced.
    pub max_uses: u64,
}

/// Whether instances are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reuse {
    /// An instance serves one call after the other.
    #[default]
    Serial,
    /// Every request gets a new instance.
    Fresh,
}

/// When a binding is put in quarantine, because its failing calls use too much CPU time or nearly all calls fail.
/// Then `on_failure` applies without a call, except for one probe at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quarantine {
    /// CPU time that failed calls may use within the window, as a share of one core; above 0.
    pub share: f64,
    /// The window in which CPU time and calls are counted.
    pub window: Duration,
    /// The fewest calls within the window, of which nine in ten must have failed; at least 1.
    pub min_calls: u32,
    /// How long the quarantine lasts before a probe.
    pub rest: Duration,
}

/// When a new version that fails clearly more often than the previous one is replaced by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Revert {
    /// Calls that are watched; 0: a version is never reverted.
    pub calls: u32,
    /// How long they are watched.
    pub time: Duration,
    /// Share of failed calls that reverts the version if the previous one stayed below it, above 0 to 1.
    pub failure_ratio: f64,
}
