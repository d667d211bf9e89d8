//! `witgate plugin …`: the plugin author's way, and what an operator needs to know of plugins.

mod build;
mod cargo;
mod rollback;
mod test;

use clap::{Args, Subcommand};

use crate::exit::Outcome;

/// Make, check, try and roll back plugins.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Test(test::Arguments),
    Build(build::Arguments),
    Rollback(rollback::Arguments),
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Test(arguments) => test::run(arguments),
        Command::Build(arguments) => build::run(arguments),
        Command::Rollback(arguments) => rollback::run(arguments),
    }
}
