//! What `GET /status` tells, and `witgate status` prints. Written by the control plane after everything it does.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use witgate_proxy::contracts::Quarantined;

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
    /// Where it is in its life.
    pub(crate) phase: GatewayPhase,
    /// The snapshot in service; counts up with every swap. 0 before the first.
    pub(crate) version: u64,
    /// The file or folder the configuration comes from; empty where there is none.
    pub(crate) config: String,
    /// What became of the latest change.
    pub(crate) last_change: Change,
    /// What the control plane is busy with; none while it waits to be asked.
    pub(crate) busy: Option<Busy>,
    /// What is being compiled; none while nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compiling: Option<Compilation>,
    /// The address the admin listener really has; none if it has only its socket.
    pub(crate) admin: Option<String>,
    /// The doors and the addresses they really have.
    pub(crate) listeners: Vec<ListenerStatus>,
    /// The bindings.
    pub(crate) bindings: Vec<BindingStatus>,
    /// Files in the plugin folder that no plugin declares: they do nothing.
    pub(crate) undeclared: Vec<String>,
}

/// A load under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Busy {
    /// Seconds since 1970 at which it began.
    pub(crate) since: u64,
    /// What asked for it, e.g. `SIGHUP (150 times); admin request`.
    pub(crate) reason: String,
    /// How often it was asked for.
    pub(crate) asked: usize,
    /// How often the load after it has been asked for.
    pub(crate) waiting: usize,
}

/// Where a gateway is in its life.
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

/// What became of one change: a reload, a rollback, a reversion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// What asked for it, e.g. `SIGHUP` or `files changed: plugins/jwt.wasm`.
    pub(crate) reason: String,
    /// Whether it is in service.
    pub(crate) applied: bool,
    /// Why it is not, or what of it is not: rendered problems, one string each.
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
    /// The file it is loaded from.
    pub(crate) file: String,
    /// Which version is in service.
    pub(crate) state: BindingState,
    /// SHA-256 of the version in service, hexadecimal; none while nothing could be loaded.
    pub(crate) digest: Option<String>,
    /// SHA-256 of the version a rollback would put in service: the last one of another file that was good.
    pub(crate) previous: Option<String>,
    /// The contracts it implements.
    pub(crate) contracts: Vec<String>,
    /// Why the version on disk is not the one in service.
    pub(crate) problem: Option<String>,
    /// Whether its calls fail without being made; none: they are made.
    #[serde(default)]
    pub(crate) quarantine: Option<QuarantineStatus>,
}

/// A binding in quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuarantineStatus {
    /// Seconds since 1970 since when it is.
    pub(crate) since: u64,
    /// Whether the next call is let through to probe it; else it still rests.
    pub(crate) probing: bool,
    /// Why, with figures.
    pub(crate) cause: String,
}

impl QuarantineStatus {
    /// How a quarantine stands at a moment, in seconds since 1970.
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
    /// An earlier one, by hand: `witgate plugin rollback`. Until the file changes again or `reload --force`.
    RolledBack,
    /// An earlier one, because the first calls of the one on disk failed. Until the file changes again or
    /// `reload --force`.
    Reverted,
    /// None (`start = "degraded"`): every call fails, and `on_failure` applies.
    Unavailable,
}

impl GatewayPhase {
    /// The word shown to people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            GatewayPhase::Starting => "starting",
            GatewayPhase::Running => "running",
            GatewayPhase::Draining => "draining",
        }
    }
}

impl BindingState {
    /// The word shown in lists.
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

/// The status of a process that begins.
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
