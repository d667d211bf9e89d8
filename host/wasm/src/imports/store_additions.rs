//! Interface `store` of version 0.2.0: the keys of a space by their beginning.

use wasmtime::component::Linker;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::store::StoreResult;

use super::store::{StoreKey, define};
use crate::bindings::draft::witgate::plugin0_2_0::store::{Page, Removal};
use crate::bindings::name;
use crate::state::HostState;

/// Adds the interface to a linker, as that of version 0.1.0 is added.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>, waits: bool) -> wasmtime::Result<()> {
    let mut store = linker.instance(name::STORE_ADDITIONS)?;
    let store = &mut store;
    let take =
        |(space, prefix, after): (String, String, Option<String>)| (StoreKey::read(space, prefix), after);
    define(store, waits, "keys", take, |keys, space, prefix, after| {
        mapped(keys.list(space, prefix, after), |page| Page { keys: page.keys, next: page.next })
    })?;
    define(store, waits, "remove-keys", take, |keys, space, prefix, after| {
        mapped(keys.remove_page(space, prefix, after), |page| Removal {
            removed: u32::try_from(page.removed).unwrap_or(u32::MAX),
            next: page.next,
        })
    })
}

/// The result in the form of the contract.
fn mapped<'k, T: 'k, U: 'k>(result: StoreResult<'k, T>, into: fn(T) -> U) -> StoreResult<'k, U> {
    match result {
        MaybeReady::Ready(ready) => MaybeReady::over(ready.into_inner().map(into)),
        MaybeReady::Pending(pending) => MaybeReady::waiting(async move { pending.await.map(into) }),
    }
}
