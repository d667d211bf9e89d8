//! The command line: one file for each command, with the same parts (what it does, its `Arguments`, `run`).

mod brokers;
mod cache;
mod compile_component;
mod config;
mod drain;
mod output;
mod place;
mod plugin;
mod proxy;
mod reload;
mod request;
mod route;
mod routes;
mod run;
mod schema;
mod status;
mod upstreams;
mod validate;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A programmable HTTP gateway: plugins are WebAssembly components.
#[derive(Parser)]
#[command(name = "witgate", version, max_term_width = 100, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 ok, 1 failure, 2 usage, 3 configuration, 4 plugin refused, 5 admin unreachable.";

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Validate(validate::Arguments),
    Proxy(proxy::Arguments),
    Routes(routes::Arguments),
    Route(route::Arguments),
    Upstreams(upstreams::Arguments),
    Brokers(brokers::Arguments),
    Cache(cache::Arguments),
    Status(status::Arguments),
    Reload(reload::Arguments),
    Drain(drain::Arguments),
    Config(config::Arguments),
    Plugin(Box<plugin::Arguments>),
    Version(version::Arguments),
    #[command(hide = true)]
    CompileComponent(compile_component::Arguments),
}

/// Parses the command line and runs the command.
pub(crate) fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Proxy(arguments) => proxy::run(&arguments),
        Command::Routes(arguments) => routes::run(&arguments),
        Command::Route(arguments) => route::run(&arguments),
        Command::Upstreams(arguments) => upstreams::run(&arguments),
        Command::Brokers(arguments) => brokers::run(&arguments),
        Command::Cache(arguments) => cache::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Plugin(arguments) => plugin::run(&arguments),
        Command::Version(arguments) => version::run(&arguments),
        Command::CompileComponent(arguments) => compile_component::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
