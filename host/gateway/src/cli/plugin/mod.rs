//! `witgate plugin …`: commands for authors and operators of plugins.

mod bench;
mod build;
mod call;
mod cargo;
mod check;
mod dev;
mod new;
mod play;
mod reference;
mod rollback;
mod sandbox;
mod scratch;
mod test;
mod told;

use clap::{Args, Subcommand};

use crate::exit::ExitResult;

/// Create, check, try and roll back plugins.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::Arguments),
    Test(test::Arguments),
    Build(build::Arguments),
    Dev(dev::Arguments),
    Check(check::Arguments),
    Call(call::Arguments),
    Play(play::Arguments),
    Bench(bench::Arguments),
    Rollback(rollback::Arguments),
    Reference(reference::Arguments),
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    match &arguments.command {
        Command::New(arguments) => new::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Build(arguments) => build::run(arguments),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Call(arguments) => call::run(arguments),
        Command::Play(arguments) => play::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Rollback(arguments) => rollback::run(arguments),
        Command::Reference(arguments) => reference::run(arguments),
    }
}
