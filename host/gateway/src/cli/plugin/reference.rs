//! `witgate plugin reference`

mod manual;

use clap::Args;

use crate::cli::output::say;
use crate::exit::ExitResult;

/// Print the reference manual of the plugin border (Markdown): contracts, imports and types, as this gateway serves them.
#[derive(Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: &Arguments) -> ExitResult {
    say(&manual::manual()?)
}
