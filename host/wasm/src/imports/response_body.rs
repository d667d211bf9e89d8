//! Interface `response-body`: a call may decline the body calls of its response.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::bindings::name;
use crate::state::HostState;

/// Defines the interface.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(name::RESPONSE_BODY)?.func_wrap(
        "decline",
        |mut store: StoreContextMut<'_, HostState>, (): ()| {
            let state = store.data_mut();
            state.charge()?;
            state.declines_body = true;
            Ok(())
        },
    )
}
