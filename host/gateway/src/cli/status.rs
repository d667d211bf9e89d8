//! `witgate status`

use std::fmt::Write;

use clap::Args;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::output::{Format, print, table};
use super::place::AdminPlace;
use crate::admin::client::{AdminAddress, Answer, ask};
use crate::control::status::{self, BindingStatus, Compilation, SourceStatus, StateStatus, Status};
use crate::exit::{Exit, ExitResult, Failure};

/// Show the state of a running gateway: versions in service, the latest change, what was refused and why.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    admin: AdminPlace,
    #[command(flatten)]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let place = arguments.admin.place();
    let status: Status = read(&place, &ask(&place, Method::GET, "/status")?)?;
    print(arguments.format, &status, || describe(&status, status::now()))
}

/// Parses the status of a gateway.
///
/// # Errors
/// The response is not a status.
pub(super) fn read<T: DeserializeOwned>(place: &AdminAddress, answer: &Answer) -> Result<T, Failure> {
    if answer.status != StatusCode::OK {
        let text = String::from_utf8_lossy(&answer.body);
        let message = format!("{} answered {}: {}", place.describe(), answer.status.as_u16(), text.trim());
        return Err(Failure::new(Exit::Failure, message));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::new(Exit::Failure, format!("the gateway's response cannot be read: {error}"))
    })
}

fn describe(status: &Status, now: u64) -> String {
    let mut text = format!(
        "witgate {} (process {}), {} for {}\n",
        status.witgate,
        status.pid,
        status.phase.as_str(),
        ago(now, status.started)
    );
    if !status.config.is_empty() {
        let _ = writeln!(text, "configuration {}, version {} in service", status.config, status.version);
    }
    describe_change(&mut text, status, now);
    if let Some(busy) = &status.busy {
        let _ = write!(text, "loading for {} ({})", ago(now, busy.since), busy.reason);
        text.push_str(&match busy.waiting {
            0 => "\n".to_owned(),
            waiting => format!("; the next load was requested {waiting} times\n"),
        });
    }
    let listeners: Vec<_> =
        status.listeners.iter().map(|listener| [listener.name.clone(), listener.address.clone()]).collect();
    let _ = write!(text, "\n{}", table(["LISTENER", "ADDRESS"], &listeners));
    if !status.bindings.is_empty() {
        describe_bindings(&mut text, &status.bindings, now);
    }
    describe_states(&mut text, &status.states);
    describe_sources(&mut text, &status.sources);
    if !status.undeclared.is_empty() {
        text.push_str("\nIn the plugin folder, but declared by no plugin (they do nothing):\n");
        for file in &status.undeclared {
            let _ = writeln!(text, "  {file}");
        }
    }
    text
}

fn describe_change(text: &mut String, status: &Status, now: u64) {
    let change = &status.last_change;
    let outcome = match (change.applied, change.problems.is_empty()) {
        (true, true) => "applied",
        (true, false) => "applied, but not every plugin could be loaded",
        (false, _) => "REFUSED, nothing has changed",
    };
    let _ = writeln!(text, "latest change {} ago ({}): {outcome}", ago(now, change.at), change.reason);
    if let Some(Compilation { plugin, file, since }) = &status.compiling {
        let _ = writeln!(text, "compiling `{plugin}` ({file}) for {}", ago(now, *since));
    }
    for problem in &change.problems {
        for line in problem.trim_end().lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
}

fn describe_states(text: &mut String, states: &[StateStatus]) {
    if states.is_empty() {
        return;
    }
    let health = |state: &StateStatus| match &state.problem {
        None => "in use".to_owned(),
        Some(problem) => format!("CANNOT BE USED: {problem}"),
    };
    let rows: Vec<_> =
        states.iter().map(|state| [state.state.clone(), state.kind.clone(), health(state)]).collect();
    let _ = write!(text, "\n{}", table(["STATE", "KIND", "HEALTH"], &rows));
}

fn describe_sources(text: &mut String, sources: &[SourceStatus]) {
    if sources.is_empty() {
        return;
    }
    let rows: Vec<_> = sources
        .iter()
        .map(|SourceStatus { upstream, source }| {
            let health = match &source.error {
                None => "in order".to_owned(),
                Some(error) => error.clone(),
            };
            let changed = source.changed.map_or_else(|| "-".to_owned(), since);
            let age = if source.changes == 0 { "-".to_owned() } else { since(source.age) };
            [upstream.clone(), source.kind.clone(), source.endpoints.to_string(), age, changed, health]
        })
        .collect();
    let headings = ["UPSTREAM", "SOURCE", "ENDPOINTS", "CONFIRMED", "CHANGED", "HEALTH"];
    let _ = write!(text, "\n{}", table(headings, &rows));
}

/// How long ago something was, from milliseconds.
pub(super) fn since(millis: u64) -> String {
    format!("{} ago", ago(millis / 1000, 0))
}

fn describe_bindings(text: &mut String, bindings: &[BindingStatus], now: u64) {
    let short =
        |digest: &Option<String>| digest.as_deref().map_or(String::new(), |digest| digest[..12].to_owned());
    let rows: Vec<_> = bindings
        .iter()
        .map(|binding| {
            [
                binding.binding.clone(),
                binding.plugin.clone(),
                state(binding),
                short(&binding.digest),
                short(&binding.previous),
                binding.contracts.join(","),
            ]
        })
        .collect();
    let headings = ["BINDING", "PLUGIN", "STATE", "DIGEST", "PREVIOUS", "CONTRACTS"];
    let _ = write!(text, "\n{}", table(headings, &rows));
    describe_credentials(text, bindings);
    for binding in bindings {
        if let Some(problem) = &binding.problem {
            let _ = writeln!(text, "\n{}: {}", binding.binding, problem.trim_end());
        }
        if let Some(quarantine) = &binding.quarantine {
            let stage =
                if quarantine.probing { "the next call is a probe" } else { "waiting before the next probe" };
            let (name, cause, since) = (&binding.binding, &quarantine.cause, ago(now, quarantine.since));
            let _ = writeln!(text, "\n{name}: in quarantine for {since}, {stage}: {cause}");
        }
    }
}

/// Which bindings see credentials that no grant names.
fn describe_credentials(text: &mut String, bindings: &[BindingStatus]) {
    for binding in bindings.iter().filter(|binding| !binding.ungranted_credentials.is_empty()) {
        let names = binding.ungranted_credentials.join(", ");
        let _ = writeln!(text, "\n{}: sees credentials without a grant: {names}", binding.binding);
    }
}

/// Which version is in service, and whether the binding is in quarantine.
fn state(binding: &BindingStatus) -> String {
    let state = binding.state.as_str();
    if binding.quarantine.is_some() { format!("{state}, quarantined") } else { state.to_owned() }
}

/// A duration in its largest unit.
pub(super) fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{BindingState, Busy, Change, GatewayPhase, QuarantineStatus};

    #[test]
    fn a_quarantine_is_shown_with_its_cause() {
        let quarantine = QuarantineStatus {
            since: 170,
            probing: false,
            cause: "20 of 20 calls within 10s failed".to_owned(),
        };
        let binding = BindingStatus {
            binding: "jwt".to_owned(),
            ungranted_credentials: vec!["cookie".to_owned()],
            quarantine: Some(quarantine),
            ..BindingStatus::default()
        };
        let text = describe(&Status { bindings: vec![binding], ..Status::default() }, 200);
        for part in [
            "current, quarantined",
            "jwt: sees credentials without a grant: cookie",
            "jwt: in quarantine for 30 s, waiting before the next probe: 20 of 20 calls within 10s failed",
        ] {
            assert!(text.contains(part), "`{part}` is missing in:\n{text}");
        }
    }

    #[test]
    fn a_refused_change_and_its_reasons_are_shown() {
        let status = Status {
            witgate: "0.1.0".to_owned(),
            pid: 7,
            started: 100,
            phase: GatewayPhase::Running,
            version: 3,
            config: "witgate.toml".to_owned(),
            last_change: Change {
                at: 190,
                reason: "SIGHUP".to_owned(),
                applied: false,
                problems: vec!["error: unknown key".to_owned()],
            },
            busy: Some(Busy { since: 197, reason: "admin request".to_owned(), asked: 1, waiting: 12 }),
            bindings: vec![BindingStatus {
                binding: "jwt".to_owned(),
                state: BindingState::LastGood,
                digest: Some("ab".repeat(32)),
                problem: Some("the file is not a component".to_owned()),
                ..BindingStatus::default()
            }],
            undeclared: vec!["stray.wasm".to_owned()],
            compiling: Some(Compilation {
                plugin: "canary".to_owned(),
                file: "plugins/canary.wasm".to_owned(),
                since: 188,
            }),
            ..Status::default()
        };
        let text = describe(&status, 200);
        for part in [
            "witgate 0.1.0 (process 7), running for 100 s",
            "latest change 10 s ago (SIGHUP): REFUSED",
            "  error: unknown key",
            "loading for 3 s (admin request); the next load was requested 12 times",
            "last-good  abababababab  -",
            "jwt: the file is not a component",
            "  stray.wasm",
            "compiling `canary` (plugins/canary.wasm) for 12 s",
        ] {
            assert!(text.contains(part), "`{part}` is missing in:\n{text}");
        }
    }
}
