//! `witgate plugin rollback`

use clap::Args;
use http::Method;

use crate::admin::client::ask;
use crate::cli::output::say;
use crate::cli::place::AdminPlace;
use crate::cli::reload::changed;
use crate::exit::{Exit, ExitResult, Failure};

/// Put the last good version of a plugin of a running gateway back in service.
///
/// That is the last version that was in service and was neither rolled back nor reverted; without one, nothing
/// changes. The version on disk is not loaded until its file changes again, or until `witgate reload --force`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Name of the binding, as in `[bindings.NAME]`
    binding: String,
    #[command(flatten)]
    admin: AdminPlace,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let target = format!("/plugins/{}/rollback", arguments.binding);
    let change = changed(&ask(&arguments.admin.place(), Method::POST, &target)?)?;
    if change.applied {
        return say(&format!("rolled back {}\n", arguments.binding));
    }
    Err(Failure::new(Exit::Failure, format!("not rolled back: {}", change.problems.join("\n"))))
}
