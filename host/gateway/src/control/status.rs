//! The state that `GET /status` returns and `witgate status` prints. The control plane writes it after everything
//! it does.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use witgate_exchange::contracts::Quarantined;
use witgate_exchange::contracts::state::Health;
use witgate_upstream::discovery::SinkStatus;

use crate::admin::sockets::AdminSockets;

/// The state of a running gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Version of the binary.
    pub(crate) witgate: String,
    /// Process id.
    pub(crate) pid: u32,
    /// Seconds since 1970 at which the process started.
    pub(crate) started: u64,
    /// The phase of its life.
    pub(crate) phase: GatewayPhase,
    /// The version of the snapshot in service, which increases with every swap. 0 before the first.
    pub(crate) version: u64,
    /// The file or folder of the configuration; empty if there is none.
    pub(crate) config: String,
    /// The latest change and its result.
    pub(crate) last_change: Change,
    /// The load in progress; none while there is none.
    pub(crate) busy: Option<Busy>,
    /// The compilation in progress; none while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compiling: Option<Compilation>,
    /// The address that the admin listener is bound to; none if it has only its socket.
    pub(crate) admin: Option<String>,
    /// The listeners and the addresses that they are bound to.
    pub(crate) listeners: Vec<ListenerStatus>,
    /// The bindings.
    pub(crate) bindings: Vec<BindingStatus>,
    /// The declared states that can be out of reach.
    #[serde(default)]
    pub(crate) states: Vec<StateStatus>,
    /// The sources of endpoints of upstreams with `discover`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sources: Vec<SourceStatus>,
    /// Files in the plugin folder that no plugin declares: they do nothing.
    pub(crate) undeclared: Vec<String>,
}

/// A load in progress.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Busy {
    /// Seconds since 1970 at which it began.
    pub(crate) since: u64,
    /// The reasons, e.g. `SIGHUP (150 times); admin request`.
    pub(crate) reason: String,
    /// How often it was requested.
    pub(crate) asked: usize,
    /// How often the next load was requested.
    pub(crate) waiting: usize,
}

/// The phase of a gateway's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GatewayPhase {
    /// Nothing is in service yet.
    #[default]
    Starting,
    /// In service.
    Running,
    /// `/readyz` fails; requests in flight are being finished.
    Draining,
}

/// One change (a reload, a rollback, a revert) and its result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// The reason, e.g. `SIGHUP` or `files changed: plugins/jwt.wasm`.
    pub(crate) reason: String,
    /// Whether it is in service.
    pub(crate) applied: bool,
    /// Why it is not in service, or which parts are not: rendered problems, one string each.
    pub(crate) problems: Vec<String>,
}

/// A plugin that is being compiled. A reload waits for it; requests do not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Compilation {
    /// The declared plugin.
    pub(crate) plugin: String,
    /// Its file.
    pub(crate) file: String,
    /// Seconds since 1970 at which it began.
    pub(crate) since: u64,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerStatus {
    /// Its name.
    pub(crate) name: String,
    /// The address it is bound to.
    pub(crate) address: String,
}

/// One binding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BindingStatus {
    /// Its name.
    pub(crate) binding: String,
    /// The declared plugin.
    pub(crate) plugin: String,
    /// The path of its file.
    pub(crate) file: String,
    /// Which version is in service.
    pub(crate) state: BindingState,
    /// SHA-256 of the version in service, hexadecimal; none if nothing could be loaded.
    pub(crate) digest: Option<String>,
    /// SHA-256 of the version that a rollback would put in service: the last good one of another file.
    pub(crate) previous: Option<String>,
    /// The contracts it implements.
    pub(crate) contracts: Vec<String>,
    /// The credentials that it sees although no grant names them.
    #[serde(default)]
    pub(crate) ungranted_credentials: Vec<String>,
    /// Why the version on disk is not in service.
    pub(crate) problem: Option<String>,
    /// The quarantine, in which calls fail without being made; none while they are made.
    #[serde(default)]
    pub(crate) quarantine: Option<QuarantineStatus>,
}

/// The source of the endpoints of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceStatus {
    /// The upstream.
    pub(crate) upstream: String,
    /// Its state.
    #[serde(flatten)]
    pub(crate) source: SinkStatus,
}

/// A state that can be out of reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateStatus {
    /// Its name.
    pub(crate) state: String,
    /// Its kind.
    pub(crate) kind: String,
    /// Whether it is in use; if not, `problem` says why.
    pub(crate) available: bool,
    /// Why it cannot be used at the moment; none while it can.
    pub(crate) problem: Option<String>,
}

impl StateStatus {
    /// The status of a state of this name, kind and health.
    pub(crate) fn of((state, kind, health): (&str, &str, Health)) -> StateStatus {
        let available = health.problem.is_none();
        StateStatus { state: state.to_owned(), kind: kind.to_owned(), available, problem: health.problem }
    }
}

/// A binding in quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuarantineStatus {
    /// Seconds since 1970 at which it began.
    pub(crate) since: u64,
    /// Whether the next call is let through as a probe; false: the time before the next probe is not over.
    pub(crate) probing: bool,
    /// The reason, with figures.
    pub(crate) cause: String,
}

impl QuarantineStatus {
    /// The state of a quarantine at the time `now`, in seconds since 1970.
    pub(crate) fn of(quarantine: Quarantined, now: u64) -> Self {
        let Quarantined { lasted, probing, cause } = quarantine;
        QuarantineStatus { since: now.saturating_sub(lasted.as_secs()), probing, cause }
    }
}

/// Which version of a plugin is in service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BindingState {
    /// The one on disk.
    #[default]
    Current,
    /// An earlier one, because the one on disk could not be loaded.
    LastGood,
    /// An earlier one, after `witgate plugin rollback`. Until the file changes again or `reload --force`.
    RolledBack,
    /// An earlier one, because calls of the one on disk failed too often. Until the file changes again or `reload
    /// --force`.
    Reverted,
    /// None (`start = "degraded"`): every call fails, and `on_failure` applies.
    Unavailable,
}

impl GatewayPhase {
    /// The word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            GatewayPhase::Starting => "starting",
            GatewayPhase::Running => "running",
            GatewayPhase::Draining => "draining",
        }
    }
}

impl BindingState {
    /// The word for lists.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            BindingState::Current => "current",
            BindingState::LastGood => "last-good",
            BindingState::RolledBack => "rolled-back",
            BindingState::Reverted => "reverted",
            BindingState::Unavailable => "unavailable",
        }
    }
}

/// The status at the beginning of the process.
pub(crate) fn at_start(config: &str, sockets: &AdminSockets) -> Status {
    Status {
        witgate: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: now(),
        config: config.to_owned(),
        admin: sockets.bound_address().map(|address| address.to_string()),
        ..Status::default()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
