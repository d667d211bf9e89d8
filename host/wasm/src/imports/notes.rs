//! Interface `notes`: named values for later plugins of the same exchange.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};
use witgate_config::model::NoteGrants;
use witgate_exchange::notes::{self, Note, Notes};

use crate::bindings::draft::witgate::plugin0_2_0::notes::Error;
use crate::bindings::name;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// Defines the interface.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(name::NOTES)?;
    interface.func_wrap(
        "leave",
        |mut store: StoreContextMut<'_, HostState>, (name, value): (String, Vec<u8>)| {
            let state = store.data_mut();
            state.marked(Mark::Notes)?;
            Ok((state.leave(Note { name: name.into(), value: value.into() }),))
        },
    )?;
    interface.func_wrap("read", |mut store: StoreContextMut<'_, HostState>, (name,): (WasmStr,)| {
        store.data_mut().marked(Mark::Notes)?;
        let name = name.to_str(&store)?;
        Ok((store.data().note(&name),))
    })
}

impl HostState {
    /// Collects a note; it is left when the call has ended well.
    fn leave(&mut self, note: Note) -> Result<(), Error> {
        if !self.granted(&note.name, |granted| &granted.write) {
            self.rights.meter.grant_refused();
            return Err(Error::Denied);
        }
        let Some(notes) = self.notes().cloned() else { return Err(Error::Denied) };
        let left = &mut self.left.get_or_insert_default().notes;
        let (_, collected) = left.get_or_insert_with(|| (Arc::clone(&notes), Vec::new()));
        if !notes.has_room(collected, &note) {
            return Err(Error::Full);
        }
        notes::put(collected, note);
        Ok(())
    }

    /// The value of a note: what this call has left itself, or else what earlier calls have.
    fn note(&self, name: &str) -> Option<Vec<u8>> {
        if !self.may_read_note(name) {
            return None;
        }
        let collected = self.left.as_ref().and_then(|left| left.notes.as_ref());
        let own = collected.and_then(|(_, notes)| notes.iter().find(|note| *note.name == *name));
        let value = match own {
            Some(note) => Some(note.value.clone()),
            None => self.notes()?.read(name),
        };
        value.map(|value| value.to_vec())
    }

    /// Whether a note of this name may be read; a refusal is counted.
    pub(super) fn may_read_note(&self, name: &str) -> bool {
        let granted = self.granted(name, |granted| &granted.read);
        if !granted {
            self.rights.meter.grant_refused();
        }
        granted
    }

    fn notes(&self) -> Option<&Arc<Notes>> {
        self.head()?.notes.as_ref()
    }

    fn granted(&self, name: &str, list: fn(&NoteGrants) -> &Vec<String>) -> bool {
        self.rights
            .grants
            .notes
            .as_ref()
            .is_some_and(|granted| list(granted).iter().any(|known| known == name))
    }
}
