//! Interface `span`: attributes for the span of the call.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};
use witgate_exchange::record::ATTRIBUTES;

use crate::bindings::name;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// The longest name of an attribute, in bytes.
const NAME: usize = 64;

/// The longest value of an attribute, in bytes.
const VALUE: usize = 256;

/// Defines the interface. Written by hand, because the generated trait would copy the texts although the trace is not sampled.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut span = linker.instance(name::SPAN)?;
    span.func_wrap("sampled", |mut store: StoreContextMut<'_, HostState>, (): ()| {
        let state = store.data_mut();
        // What follows from it differs from request to request.
        state.marked(Mark::TraceParent)?;
        Ok((state.is_sampled(),))
    })?;
    span.func_wrap(
        "attribute",
        |mut store: StoreContextMut<'_, HostState>, (name, value): (WasmStr, WasmStr)| {
            store.data_mut().marked(Mark::TraceParent)?;
            if !store.data().is_sampled() {
                return Ok(());
            }
            let (name, value) = (name.to_str(&store)?.into_owned(), value.to_str(&store)?.into_owned());
            store.data_mut().attribute(&name, &value);
            Ok(())
        },
    )
}

impl HostState {
    /// Whether the call has a span.
    fn is_sampled(&self) -> bool {
        self.head().and_then(|head| head.trace.as_ref()).is_some_and(|trace| trace.sampled)
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.');
        if name.is_empty() || name.len() > NAME || !name.bytes().all(letter) {
            return;
        }
        let value = &value[..value.floor_char_boundary(VALUE)];
        let attributes = &mut self.left.get_or_insert_default().attributes;
        match attributes.iter().position(|(known, _)| **known == *name) {
            Some(index) => attributes[index].1 = value.into(),
            None if attributes.len() < ATTRIBUTES => attributes.push((name.into(), value.into())),
            None => {}
        }
    }
}
