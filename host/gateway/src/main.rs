//! The `witgate` binary: the control plane and the command line.
//!
//! A table of contents:
//!
//! - [`cli`]: one file for each command, all of one shape.
//! - [`control`]: the one owner of what is in service: load, compile, swap, retire.
//! - [`watch`]: notices changed files and tells the control plane.
//! - [`admin`]: the admin listener, and the commands' way to it.
//! - [`allocator`]: where memory comes from.
//! - [`process`]: signals, and what the service manager is told.
//! - [`exit`]: what the process ends with.

mod admin;
mod allocator;
mod cli;
mod control;
mod exit;
mod process;
mod watch;

use std::process::ExitCode;

/// Chosen by measurement, in one run with the C library's: a plain request costs 0.92 of its CPU (median of three
/// interleaved rounds, each better). With four plugins the rounds were too far apart to say; jemalloc gained nothing.
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    cli::main()
}
