//! `witgate validate`

use std::path::PathBuf;

use clap::Args;

use super::output::say;
use super::place::ConfigPlace;
use crate::control;
use crate::control::source::Source;
use crate::exit::ExitResult;

/// Check a configuration as `witgate run` would, including plugins and their settings.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigPlace,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    validate(arguments.config.path())
}

/// Checks the configuration at a path.
pub(crate) fn validate(path: PathBuf) -> ExitResult {
    let built = control::build_once(&Source::Path(path.clone()))?;
    for warning in built.reservations.iter().chain(&built.snapshot.warnings()) {
        eprintln!("warning: {warning}");
    }
    if let Some(note) = built.snapshot.ungranted_credentials() {
        eprintln!("note: {note}");
    }
    let config = &built.snapshot.config;
    say(&format!(
        "{} is valid: listeners {}, routes {}, upstreams {}, bindings {}\n",
        path.display(),
        config.listeners.len(),
        config.routes.len(),
        config.upstreams.len(),
        config.bindings.len()
    ))
}
