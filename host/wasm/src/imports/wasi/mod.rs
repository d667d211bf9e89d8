//! The part of WASI 0.2 that the standard library of a guest imports. No function waits.
//!
//! There are no environment variables, files or sockets. Exiting the program is a trap, standard output and
//! standard error are written to the log, clocks and random numbers are real. Interfaces that are not listed here
//! cannot be imported.

mod cli;
mod clocks;
mod io;
mod random;

pub(crate) use io::{Output, OutputStream, Written};

use wasmtime::component::Linker;

use crate::state::HostState;

/// Names of the interfaces that may be imported, without version. Any patch version of WASI 0.2 is accepted.
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

/// The version under which the interfaces are defined; the linker accepts every later 0.2.
pub(crate) const VERSION: &str = "0.2.0";

/// Defines all interfaces.
///
/// # Errors
/// None in practice: each name is defined once.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    cli::add_to_linker(linker)?;
    clocks::add_to_linker(linker)?;
    io::add_to_linker(linker)?;
    random::add_to_linker(linker)
}
