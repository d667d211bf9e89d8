//! The interfaces that a guest may import, one file for each.

mod calendar;
pub(crate) mod crypto;
mod crypto_additions;
mod data;
mod ending;
mod facts;
pub(crate) mod fetch;
pub(crate) mod log;
pub(crate) mod mailbox;
pub(crate) mod metrics;
mod notes;
mod observed;
mod password;
pub(crate) mod request;
mod response_body;
mod settlement;
mod span;
pub(crate) mod store;
mod store_additions;
mod upstream_host;
pub(crate) mod wasi;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::witgate::plugin;
use crate::state::HostState;

/// What of its imports a guest may wait for. If it may wait for any, it runs on a stack of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    /// `fetch`: without this, it denies at once.
    pub(crate) fetch: bool,
    /// `store`: without this, the store answers at once.
    pub(crate) store: bool,
    /// `password`: without this, it has no verdicts.
    pub(crate) password: bool,
}

impl Waits {
    /// Whether it may wait for anything.
    pub(crate) fn any(self) -> bool {
        self.fetch || self.store || self.password
    }

    /// The index of such guests in a table of [`KINDS`].
    fn index(self) -> usize {
        usize::from(self.fetch) | usize::from(self.store) << 1 | usize::from(self.password) << 2
    }
}

/// Number of kinds of guests, by what they may wait for.
const KINDS: usize = 8;

/// Linkers for guests, by what these wait for.
pub(crate) struct Linkers(Vec<Linker<HostState>>);

impl Linkers {
    /// Makes them.
    ///
    /// # Errors
    /// As [`linker`].
    pub(crate) fn new(engine: &wasmtime::Engine) -> wasmtime::Result<Linkers> {
        let linker = |index: usize| {
            let is = |bit: usize| index >> bit & 1 == 1;
            linker(engine, Waits { fetch: is(0), store: is(1), password: is(2) })
        };
        Ok(Linkers((0..KINDS).map(linker).collect::<wasmtime::Result<_>>()?))
    }

    /// The one for such guests.
    pub(crate) fn of(&self, waits: Waits) -> &Linker<HostState> {
        &self.0[waits.index()]
    }
}

/// Everything a guest may import.
///
/// # Errors
/// None in practice: a name is defined once.
pub(crate) fn linker(engine: &wasmtime::Engine, waits: Waits) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    plugin::types::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    plugin::log::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    plugin::metrics::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    store::add_to_linker(&mut linker, waits.store)?;
    store_additions::add_to_linker(&mut linker, waits.store)?;
    if waits.fetch {
        plugin::fetch::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    } else {
        fetch::add_denying_to_linker(&mut linker)?;
    }
    crypto::add_to_linker(&mut linker)?;
    crypto_additions::add_to_linker(&mut linker)?;
    data::add_to_linker(&mut linker)?;
    calendar::add_to_linker(&mut linker)?;
    notes::add_to_linker(&mut linker)?;
    span::add_to_linker(&mut linker)?;
    facts::add_to_linker(&mut linker)?;
    response_body::add_to_linker(&mut linker)?;
    ending::add_to_linker(&mut linker)?;
    observed::add_to_linker(&mut linker)?;
    upstream_host::add_to_linker(&mut linker)?;
    settlement::add_to_linker(&mut linker)?;
    password::add_to_linker(&mut linker, waits.password)?;
    wasi::add_to_linker(&mut linker)?;
    Ok(linker)
}
