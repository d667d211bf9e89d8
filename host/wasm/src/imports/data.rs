//! Interface `data`: files that the operator grants, which the gateway holds in memory.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use crate::bindings::draft::witgate::plugin0_2_0::data::Error;
use crate::bindings::name;
use crate::data::Data;
use crate::state::HostState;

/// The most bytes of one read.
const READ: usize = 1 << 20;

/// Defines the interface. Written by hand, because the generated trait would copy the name of the file for each read.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut data = linker.instance(name::DATA)?;
    data.func_wrap("size", |mut store: StoreContextMut<'_, HostState>, (name,): (WasmStr,)| {
        let size = |data: &Data| data.bytes().len() as u64;
        Ok((with(&mut store, &name, size)?,))
    })?;
    data.func_wrap(
        "read",
        |mut store: StoreContextMut<'_, HostState>, (name, offset, length): (WasmStr, u64, u32)| {
            let length = usize::try_from(length).unwrap_or(READ).min(READ);
            let range = |data: &Data| data.range(offset, length).to_vec();
            Ok((with(&mut store, &name, range)?,))
        },
    )
}

/// Does something with a file, if the binding may read it.
fn with<T>(
    store: &mut StoreContextMut<'_, HostState>,
    name: &WasmStr,
    act: impl FnOnce(&Data) -> T,
) -> wasmtime::Result<Result<T, Error>> {
    store.data_mut().charge()?;
    let wanted = name.to_str(&*store)?;
    let rights = &store.data().rights;
    match rights.data.iter().find(|(name, _)| **name == *wanted) {
        Some((_, data)) => Ok(Ok(act(data))),
        None => {
            rights.meter.grant_refused();
            Ok(Err(Error::Denied))
        }
    }
}
