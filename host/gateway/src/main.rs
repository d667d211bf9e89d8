//! The `witgate` binary: the control plane and the command line.
//!
//! - [`cli`]: one file for each command, with the same parts.
//! - [`control`]: the only owner of what is in service: load, compile, swap, retire.
//! - [`watch`]: notices changed files and requests a reload.
//! - [`admin`]: the admin listener, and the client with which commands reach it.
//! - [`allocator`]: the global allocator.
//! - [`process`]: signals, and notices to the service manager.
//! - [`exit`]: exit codes.

mod admin;
mod allocator;
mod cli;
mod control;
mod exit;
mod process;
mod watch;

use std::process::ExitCode;

/// Chosen by measurement: a plain request takes less CPU time than with the C library's allocator.
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    cli::main()
}
