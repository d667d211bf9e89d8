//! `witgate compile-component`, a hidden command that only the gateway itself runs.

use clap::Args;
use witgate_wasm::{ChildArguments, compile_component};

use crate::exit::{Exit, ExitResult, Failure};

/// Compile the component on standard input, within limits. Only the gateway itself runs this, for each new plugin.
#[derive(Args)]
pub(crate) struct Arguments {
    /// CPU time in seconds
    #[arg(long)]
    cpu: u64,
    /// Address space in bytes
    #[arg(long)]
    memory: u64,
    /// Process id of the gateway that runs this
    #[arg(long)]
    parent: i32,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let Arguments { cpu, memory, parent } = *arguments;
    compile_component(ChildArguments { cpu, memory, parent })
        .map_err(|error| Failure::new(Exit::Failure, error.to_string()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_has_the_name_by_which_it_is_run_and_is_hidden() {
        let commands = crate::cli::CommandLine::command();
        let command = commands.find_subcommand(witgate_wasm::CHILD_COMMAND).expect("it is there");
        assert!(command.is_hide_set());
    }
}
