//! `witgate reload`

use clap::Args;
use http::{Method, StatusCode};

use super::output::say;
use super::place::AdminPlace;
use crate::admin::client::{Answer, ask};
use crate::control::status::Change;
use crate::exit::{Exit, ExitResult, Failure};

/// Have a running gateway read its configuration and plugins again.
///
/// If the configuration has a problem, nothing changes and this command prints the problem (exit code 3). A
/// refused plugin stays at its last good version while everything else takes effect (exit code 4).
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    admin: AdminPlace,
    /// Try versions of plugins again that were rolled back or reverted
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let target = if arguments.force { "/reload?force=true" } else { "/reload" };
    let change = changed(&ask(&arguments.admin.place(), Method::POST, target)?)?;
    for problem in &change.problems {
        eprintln!("{}", problem.trim_end());
    }
    match (change.applied, change.problems.is_empty()) {
        (true, true) => say("reloaded\n"),
        (true, false) => {
            Err(Failure::new(Exit::PluginRefused, "reloaded, but not every plugin could be loaded"))
        }
        (false, _) => Err(Failure::new(Exit::Config, "not reloaded: nothing has changed")),
    }
}

/// The result of a requested change.
///
/// # Errors
/// The gateway did not carry it out: no permission, or too many requests in progress.
pub(crate) fn changed(answer: &Answer) -> Result<Change, Failure> {
    let text = || String::from_utf8_lossy(&answer.body).trim().to_owned();
    match answer.status {
        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY => {
            serde_json::from_slice(&answer.body).map_err(|error| {
                Failure::new(Exit::Failure, format!("the gateway's response cannot be read: {error}"))
            })
        }
        status => Err(Failure::new(
            Exit::Failure,
            format!("the gateway responded with {}: {}", status.as_u16(), text()),
        )),
    }
}
