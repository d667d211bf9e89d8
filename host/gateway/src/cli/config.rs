//! `witgate config …`

mod show;

use clap::{Args, Subcommand};

use super::output::say;
use super::schema;
use crate::exit::{Exit, ExitResult, Failure};

/// Print information about the configuration file.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    Show(show::Arguments),
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    match &arguments.command {
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&schema::whole()).map_err(|error| {
                Failure::new(Exit::Failure, format!("the schema cannot be shown: {error}"))
            })?;
            say(&format!("{schema}\n"))
        }
        Command::Show(arguments) => show::run(arguments),
    }
}
