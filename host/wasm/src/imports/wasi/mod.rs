//! The little of WASI 0.2 that a guest's standard library asks for, served without ever waiting.
//!
//! There is no environment, no file and no socket. Leaving the program is a trap, standard output and error become log
//! lines, clocks and random numbers are real. What is not listed here cannot be imported.

mod cli;
mod clocks;
mod io;
mod random;

pub(crate) use io::{Output, OutputStream, Written};

use wasmtime::component::Linker;

use crate::state::HostState;

/// Names of interfaces that may be imported, without version. A newer patch of WASI 0.2 is served like the first.
pub(crate) const INTERFACES: [&str; 18] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// The version the interfaces are defined as; the linker serves every later 0.2.
pub(crate) const VERSION: &str = "0.2.0";

/// Defines all of it.
///
/// # Errors
/// None in practice: a name is defined once.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    cli::add_to_linker(linker)?;
    clocks::add_to_linker(linker)?;
    io::add_to_linker(linker)?;
    random::add_to_linker(linker)
}
