//! `witgate plugin test`

use std::path::PathBuf;

use clap::Args;

use super::{cargo, sandbox};
use crate::exit::{Exit, ExitResult, Failure};

/// Run a plugin's tests: natively, in seconds, with mocks for everything a gateway provides.
///
/// The same as `cargo test` in the plugin's folder, and then a build as a component. With `--sandbox` the same tests run
/// as WebAssembly instead, in the engine of the gateway, each in an instance of its own.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plugin's folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    path: PathBuf,
    /// Run the tests as WebAssembly, in the gateway's sandbox
    #[arg(long)]
    sandbox: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    if arguments.sandbox {
        return sandbox::run(&arguments.path);
    }
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
