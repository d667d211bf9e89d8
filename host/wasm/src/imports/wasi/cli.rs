//! `wasi:cli`: an empty environment, an exit that traps, and the standard streams.

use wasmtime::component::{Linker, Resource, ResourceType};

use super::VERSION;
use super::io::{InputStream, OutputStream, STDERR, STDOUT};
use crate::state::HostState;

enum TerminalInput {}
enum TerminalOutput {}

/// Defines the interfaces.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    environment(linker)?;
    streams(linker)?;
    terminals(linker)
}

fn environment(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut environment = linker.instance(&format!("wasi:cli/environment@{VERSION}"))?;
    environment.func_wrap("get-environment", |mut store, ()| {
        store.data_mut().charge()?;
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |mut store, ()| {
        store.data_mut().charge()?;
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |mut store, ()| {
        store.data_mut().charge()?;
        Ok((None::<String>,))
    })?;
    let mut exit = linker.instance(&format!("wasi:cli/exit@{VERSION}"))?;
    exit.func_wrap("exit", |_, (_status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("the plugin tried to leave the program"))
    })
}

fn streams(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(&format!("wasi:cli/stdin@{VERSION}"))?.func_wrap("get-stdin", |mut store, ()| {
        store.data_mut().charge()?;
        Ok((Resource::<InputStream>::new_own(0),))
    })?;
    for (name, function, stream) in [("stdout", "get-stdout", STDOUT), ("stderr", "get-stderr", STDERR)] {
        linker.instance(&format!("wasi:cli/{name}@{VERSION}"))?.func_wrap(
            function,
            move |mut store, ()| {
                store.data_mut().charge()?;
                Ok((Resource::<OutputStream>::new_own(stream),))
            },
        )?;
    }
    Ok(())
}

fn terminals(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let input = ResourceType::host::<TerminalInput>();
    linker.instance(&format!("wasi:cli/terminal-input@{VERSION}"))?.resource(
        "terminal-input",
        input,
        |_, _| Ok(()),
    )?;
    let output = ResourceType::host::<TerminalOutput>();
    linker.instance(&format!("wasi:cli/terminal-output@{VERSION}"))?.resource(
        "terminal-output",
        output,
        |_, _| Ok(()),
    )?;
    linker.instance(&format!("wasi:cli/terminal-stdin@{VERSION}"))?.func_wrap(
        "get-terminal-stdin",
        |mut store, ()| {
            store.data_mut().charge()?;
            Ok((None::<Resource<TerminalInput>>,))
        },
    )?;
    for name in ["stdout", "stderr"] {
        linker.instance(&format!("wasi:cli/terminal-{name}@{VERSION}"))?.func_wrap(
            &format!("get-terminal-{name}"),
            |mut store, ()| {
                store.data_mut().charge()?;
                Ok((None::<Resource<TerminalOutput>>,))
            },
        )?;
    }
    Ok(())
}
