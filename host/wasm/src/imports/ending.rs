//! Interface `ending`: a call with the body of a request may end the exchange.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::bindings::name;
use crate::bindings::witgate::plugin::types::Response;
use crate::state::HostState;

/// Defines the interface.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(name::ENDING)?.func_wrap(
        "respond",
        |mut store: StoreContextMut<'_, HostState>, (response,): (Response,)| {
            let state = store.data_mut();
            state.charge()?;
            if state.may_respond {
                state.responds = Some(response);
            }
            Ok((state.may_respond,))
        },
    )
}
