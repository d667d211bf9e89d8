//! `witgate plugin build`

use std::path::PathBuf;

use clap::Args;

use super::cargo;
use crate::cli::output::say;
use crate::exit::Outcome;

/// Build a plugin as a component for a gateway, as `target/NAME.wasm`, and check it.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plugin's folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    path: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    say(&format!("{}\n", cargo::build(&arguments.path)?.display()))
}
