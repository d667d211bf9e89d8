//! The interfaces that a guest may import, one file for each.

pub(crate) mod crypto;
pub(crate) mod fetch;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod request;
pub(crate) mod store;
pub(crate) mod wasi;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::witgate::plugin;
use crate::state::HostState;

/// Everything that a guest which never waits may import. Its `fetch` returns an error immediately.
///
/// # Errors
/// None in practice: each name is defined once.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = without_fetch(engine)?;
    fetch::add_denying_to_linker(&mut linker)?;
    Ok(linker)
}

/// The same with a `fetch` that waits: guests linked with it run on a stack of their own.
///
/// # Errors
/// As [`linker`].
pub(crate) fn waiting_linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = without_fetch(engine)?;
    plugin::fetch::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    Ok(linker)
}

fn without_fetch(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    plugin::types::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    plugin::log::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    plugin::metrics::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    plugin::store::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    crypto::add_to_linker(&mut linker)?;
    wasi::add_to_linker(&mut linker)?;
    Ok(linker)
}
