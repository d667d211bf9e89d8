//! Interface `observed`: more of the exchanges that a call of `observe` was given.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};
use witgate_exchange::log_entry::LogEntry;

use crate::bindings::name;
use crate::state::HostState;

/// Defines the interface.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut observed = linker.instance(name::OBSERVED)?;
    observed.func_wrap(
        "note",
        |mut store: StoreContextMut<'_, HostState>, (exchange, name): (u32, WasmStr)| {
            store.data_mut().charge()?;
            let name = name.to_str(&store)?;
            let state = store.data();
            let note = state.may_read_note(&name).then(|| state.observed(exchange)).flatten();
            let note = note.and_then(|entry| entry.head.notes.as_ref()?.read(&name));
            Ok((note.map(|value| value.to_vec()),))
        },
    )?;
    observed.func_wrap(
        "response-header",
        |mut store: StoreContextMut<'_, HostState>, (exchange, name): (u32, WasmStr)| {
            store.data_mut().charge()?;
            let name = name.to_str(&store)?;
            let state = store.data();
            let granted = state.rights.response_headers.iter().find(|granted| granted.as_str() == &*name);
            let values = granted.zip(state.observed(exchange)).map(|(name, entry)| {
                entry.response_headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
            });
            Ok((values.unwrap_or_else(Vec::<Vec<u8>>::new),))
        },
    )
}

impl HostState {
    /// The exchange at this position of the batch.
    fn observed(&self, index: u32) -> Option<&LogEntry> {
        let index = usize::try_from(index).ok()?;
        self.batch.get(index).map(|entry| &**entry)
    }
}
