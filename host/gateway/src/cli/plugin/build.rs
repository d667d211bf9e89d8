//! `witgate plugin build`

use std::path::PathBuf;

use clap::Args;

use super::{cargo, check};
use crate::cli::output::Format;
use crate::exit::ExitResult;

/// Build a plugin as a component for a gateway, as `target/NAME.wasm`, and check it.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plugin's folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    check::check(&cargo::build(&arguments.path)?, arguments.format)
}
