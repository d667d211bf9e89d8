//! `witgate plugin test`

use std::path::PathBuf;

use clap::Args;

use super::cargo;
use crate::exit::{Exit, Failure, Outcome};

/// Run a plugin's tests: natively, in seconds, with mocks for everything a gateway provides.
///
/// The same as `cargo test` in the plugin's folder, and then a build as a component.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plugin's folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    path: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let status = cargo::cargo()
        .arg("test")
        .current_dir(&arguments.path)
        .status()
        .map_err(|error| Failure::new(Exit::Failure, format!("cargo cannot be run: {error}")))?;
    if !status.success() {
        return Err(Failure::new(Exit::Failure, "the tests fail"));
    }
    cargo::build(&arguments.path).map(drop)
}
