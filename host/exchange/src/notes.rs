//! Notes: named values that plugins leave for later plugins of the same exchange.
//!
//! A call collects the notes that it leaves, and they are written when the call has ended well. So no other call ever sees
//! those of a call that failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::settling::Settling;

/// The most notes of one exchange.
pub const MOST: usize = 32;

/// The most bytes of one note, with its name.
pub const LONGEST: usize = 1 << 10;

/// The most bytes of all notes of one exchange, with their names.
pub const ALL: usize = 8 << 10;

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its name.
    pub name: Box<str>,
    /// Its value.
    pub value: Bytes,
}

/// The notes of one exchange. Shared with bodies that still call plugins while they stream.
#[derive(Debug, Default)]
pub struct Notes {
    notes: Mutex<Vec<Note>>,
    /// The `Host` that a plugin has set for the upstream.
    host: Mutex<Option<Arc<str>>>,
}

impl Notes {
    /// The value of a note.
    pub fn read(&self, name: &str) -> Option<Bytes> {
        self.lock().iter().find(|note| *note.name == *name).map(|note| note.value.clone())
    }

    /// Whether there would be room for another note beside those that a call has collected.
    pub fn has_room(&self, collected: &[Note], note: &Note) -> bool {
        let mut all = self.lock().clone();
        collected.iter().chain([note]).for_each(|note| put(&mut all, note.clone()));
        fits(&all) && size(note) <= LONGEST
    }

    /// Leaves the notes that a call has collected. What no longer fits, because another call has ended meanwhile, is left
    /// out.
    pub fn leave(&self, collected: Vec<Note>) {
        let mut all = self.lock();
        for note in collected {
            let before = all.clone();
            put(&mut all, note);
            if !fits(&all) {
                *all = before;
            }
        }
    }

    /// The upstream sees this `Host`, which was validated.
    pub fn set_host(&self, host: Box<str>) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(host.into());
    }

    /// The `Host` that a plugin has set for the upstream.
    pub fn host(&self) -> Option<Arc<str>> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a note in place of one of the same name.
pub fn put(all: &mut Vec<Note>, note: Note) {
    match all.iter_mut().find(|known| known.name == note.name) {
        Some(known) => known.value = note.value,
        None => all.push(note),
    }
}

fn size(note: &Note) -> usize {
    note.name.len() + note.value.len()
}

fn fits(all: &[Note]) -> bool {
    all.len() <= MOST && all.iter().map(size).sum::<usize>() <= ALL
}

/// Costs by the names of policies.
pub type Costs = Vec<(Box<str>, u32)>;

/// What a call leaves beside its result: taken and applied by the pipeline once the result is known to be good.
#[derive(Debug, Default)]
pub struct Left {
    /// The notes, and where they go.
    pub notes: Option<(Arc<Notes>, Vec<Note>)>,
    /// The `Host` that the upstream is to see; set where the notes go.
    pub host: Option<Box<str>>,
    /// What the request has cost, by policy, and where that is said.
    pub costs: Option<(Arc<Settling>, Costs)>,
    /// Attributes for the span of the call.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, bytes: usize) -> Note {
        Note { name: name.into(), value: vec![b'v'; bytes].into() }
    }

    #[test]
    fn a_later_note_replaces_an_earlier_one_of_its_name() {
        let notes = Notes::default();
        notes.leave(vec![note("a", 1), note("b", 2), note("a", 3)]);
        assert_eq!(notes.read("a").map(|value| value.len()), Some(3));
        assert_eq!(notes.read("b").map(|value| value.len()), Some(2));
        assert_eq!(notes.read("c"), None);
    }

    #[test]
    fn number_and_bytes_are_bounded_also_over_calls() {
        let notes = Notes::default();
        assert!(notes.has_room(&[], &note("n", LONGEST - 1)));
        assert!(!notes.has_room(&[], &note("n", LONGEST)));
        let many: Vec<Note> = (0..MOST).map(|number| note(&format!("{number}"), 1)).collect();
        assert!(!notes.has_room(&many, &note("more", 1)));
        assert!(notes.has_room(&many, &note("7", 1)), "it replaces one");
        notes.leave(many);
        notes.leave(vec![note("more", 1)]);
        assert_eq!(notes.read("more"), None);
        let heavy = Notes::default();
        heavy.leave((0..20).map(|number| note(&format!("{number}"), 1000)).collect());
        let held: usize = (0..20).filter(|number| heavy.read(&number.to_string()).is_some()).count();
        assert_eq!(held, 8);
        assert!(!heavy.has_room(&[], &note("x", 1000)));
    }
}
