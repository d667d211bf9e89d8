//! The `witgate` binary: the control plane and the command line.
//!
//! A table of contents:
//!
//! - [`cli`]: one file for each command, all of one shape.
//! - [`control`]: the one owner of what is in service: load, compile, swap, retire.
//! - [`watch`]: notices changed files and tells the control plane.
//! - [`admin`]: the admin listener, and the commands' way to it.
//! - [`process`]: signals, and what the service manager is told.
//! - [`exit`]: what the process ends with.

mod admin;
mod cli;
mod control;
mod exit;
mod process;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
