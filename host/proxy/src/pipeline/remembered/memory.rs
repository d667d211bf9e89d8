//! The remembered results of one core, with the statistics of each binding.

use std::rc::Rc;
use std::time::Instant;

use witgate_exchange::contracts::{Function, Input};
use witgate_exchange::credentials::Credentials;
use witgate_exchange::head::RequestHead;
use witgate_exchange::names::Numbered;

use super::key::Basis;
use super::pace::Pace;
use super::table::Table;
use super::{Lookup, MissToken, Rememberable};

/// The most lists of inputs on which acceptances of one binding may be based. Each costs one hash for each
/// request.
pub(super) const SHAPES: usize = 4;

/// Number of kinds of results: acceptances, and one for each function.
const KINDS: usize = 1 + Function::ALL.len();

/// The binding and the snapshot to which a result belongs.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    /// Version of the binding.
    pub(super) version: u64,
    /// Version of the snapshot that the request sees.
    pub(super) snapshot: u64,
}

/// The remembered results of one core.
#[derive(Default)]
pub(crate) struct Memory {
    /// The newest snapshot that was seen. For requests with another snapshot nothing is recalled or remembered.
    snapshot: u64,
    /// The statistics of each version of a binding in that snapshot.
    habits: Numbered<Habit>,
    table: Table,
}

/// The statistics of one version of a binding.
#[derive(Default)]
struct Habit {
    /// Indexed by [`kind`].
    paces: [Pace; KINDS],
    /// The lists of inputs that its acceptances were based on.
    shapes: Vec<Box<[Input]>>,
}

impl Memory {
    /// The remembered result of a pure function.
    pub(super) fn recall<T: Rememberable>(
        &mut self,
        owner: Owner,
        function: Function,
        basis: &Basis<'_>,
    ) -> Lookup<T> {
        if !self.serves(owner.snapshot) {
            return Lookup::Miss(MissToken::default());
        }
        let kind = kind(Some(function));
        let tag = tag(owner, kind, 0);
        let hash = self.table.hash(tag, basis);
        let found = self.table.find(tag, hash, basis).and_then(|entry| entry.answer());
        self.habits.entry(owner.version).or_default().outcome(kind, found, [hash; SHAPES])
    }

    /// Remembers the result of a pure function.
    pub(super) fn remember<T: Rememberable>(
        &mut self,
        owner: Owner,
        function: Function,
        hash: u64,
        basis: &Basis<'_>,
        answer: &Rc<T>,
    ) {
        if self.serves(owner.snapshot) {
            self.table.insert(tag(owner, kind(Some(function)), 0), hash, basis, None, answer);
        }
    }

    /// A remembered acceptance that is still valid, for any of the lists of inputs.
    pub(super) fn recall_acceptance<T: Rememberable>(
        &mut self,
        owner: Owner,
        head: &RequestHead,
        now: impl Fn() -> Instant,
    ) -> Lookup<T> {
        if !self.serves(owner.snapshot) {
            return Lookup::Miss(MissToken::default());
        }
        let kind = kind(None);
        let habit = self.habits.entry(owner.version).or_default();
        let mut hashes = [0; SHAPES];
        let mut found = None;
        for (shape, inputs) in habit.shapes.iter().enumerate() {
            let basis =
                Basis { inputs, head, shown: None, secret: true, credentials: Credentials::visible() };
            let tag = tag(owner, kind, shape);
            hashes[shape] = self.table.hash(tag, &basis);
            let entry = self.table.find(tag, hashes[shape], &basis);
            found = entry.filter(|entry| entry.holds(&now)).and_then(|entry| entry.answer());
            if found.is_some() {
                break;
            }
        }
        habit.outcome(kind, found, hashes)
    }

    /// Remembers an acceptance. `hashes` are those of the lists of inputs that were known when the acceptance was
    /// looked for.
    pub(super) fn remember_acceptance<T: Rememberable>(
        &mut self,
        owner: Owner,
        hashes: &[u64; SHAPES],
        head: &RequestHead,
        (inputs, until): (&[Input], Instant),
        accepted: &Rc<T>,
    ) {
        if !self.serves(owner.snapshot) {
            return;
        }
        let shapes = &mut self.habits.entry(owner.version).or_default().shapes;
        let known = shapes.iter().position(|shape| **shape == *inputs);
        let shape = match known {
            Some(shape) => shape,
            None if shapes.len() == SHAPES => return,
            None => {
                shapes.push(inputs.into());
                shapes.len() - 1
            }
        };
        let basis = Basis { inputs, head, shown: None, secret: true, credentials: Credentials::visible() };
        let tag = tag(owner, kind(None), shape);
        // Zero means that the list of inputs became known while the call was in progress.
        let hash = match hashes[shape] {
            0 => self.table.hash(tag, &basis),
            hash => hash,
        };
        self.table.insert(tag, hash, &basis, Some(until), accepted);
    }

    /// Whether results are remembered for requests with this snapshot. A newer snapshot discards everything of the
    /// previous one.
    fn serves(&mut self, snapshot: u64) -> bool {
        if snapshot > self.snapshot {
            self.snapshot = snapshot;
            self.habits.clear();
            self.table.forget();
        }
        snapshot == self.snapshot
    }
}

impl Habit {
    fn outcome<T>(&mut self, kind: usize, found: Option<Rc<T>>, hashes: [u64; SHAPES]) -> Lookup<T> {
        let pace = &mut self.paces[kind];
        match found {
            Some(answer) => {
                pace.hit();
                Lookup::Hit(answer)
            }
            None => Lookup::Miss(MissToken(pace.miss().then_some(hashes))),
        }
    }
}

/// The index of a kind of results; `None` stands for acceptances.
fn kind(function: Option<Function>) -> usize {
    function.map_or(0, |function| 1 + function as usize)
}

/// Identifies the owner and the kind of a result. Versions are counted from 1, so the shift loses no bits.
fn tag(owner: Owner, kind: usize, shape: usize) -> u64 {
    owner.version << 8 | (kind << 4 | shape) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::testing;

    struct Subject(&'static str);

    impl Rememberable for Subject {
        fn size(&self) -> usize {
            self.0.len()
        }
    }

    const FIRST: Owner = Owner { version: 1, snapshot: 1 };

    fn head(path: &str) -> RequestHead {
        testing::head(Method::GET, path, &[])
    }

    fn recall(
        memory: &mut Memory,
        owner: Owner,
        path: &str,
        now: Instant,
    ) -> Result<&'static str, MissToken> {
        match memory.recall_acceptance::<Subject>(owner, &head(path), || now) {
            Lookup::Hit(subject) => Ok(subject.0),
            Lookup::Miss(miss) => Err(miss),
        }
    }

    fn accept(memory: &mut Memory, owner: Owner, path: &str, inputs: &[Input], until: Instant) {
        let Err(MissToken(Some(hashes))) = recall(memory, owner, path, until) else { panic!("leave") };
        let accepted = Rc::new(Subject("ann"));
        memory.remember_acceptance(owner, &hashes, &head(path), (inputs, until), &accepted);
    }

    #[test]
    fn acceptances_end_with_their_time() {
        let mut memory = Memory::default();
        let until = Instant::now() + Duration::from_secs(10);
        accept(&mut memory, FIRST, "/", &[Input::Path], until);
        let second = Duration::from_secs(1);
        assert_eq!(recall(&mut memory, FIRST, "/", until - second).ok(), Some("ann"));
        assert_eq!(recall(&mut memory, FIRST, "/", until).ok(), None);
        let other = Owner { version: 2, ..FIRST };
        assert_eq!(recall(&mut memory, other, "/", until - second).ok(), None);
    }

    #[test]
    fn a_new_snapshot_forgets_and_the_one_before_finds_nothing() {
        let mut memory = Memory::default();
        let (now, until) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        let next = Owner { snapshot: 2, ..FIRST };
        accept(&mut memory, FIRST, "/", &[Input::Path], until);
        accept(&mut memory, next, "/", &[Input::Path], until);
        assert_eq!(recall(&mut memory, next, "/", now).ok(), Some("ann"));
        let Err(MissToken(None)) = recall(&mut memory, FIRST, "/", now) else { panic!("no leave") };
        memory.remember_acceptance(
            FIRST,
            &[0; SHAPES],
            &head("/late"),
            (&[Input::Path], until),
            &Rc::new(Subject("bob")),
        );
        assert_eq!(recall(&mut memory, next, "/late", now).ok(), None);
    }

    #[test]
    fn acceptances_of_several_shapes_are_found_and_shapes_are_bounded() {
        let mut memory = Memory::default();
        let (now, until) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        let shapes = [Input::Path, Input::Query, Input::Method, Input::Authority, Input::ClientAddress];
        for (number, shape) in shapes.iter().enumerate() {
            let owner = Owner { version: 1 + number as u64 / 2, ..FIRST };
            accept(&mut memory, owner, &format!("/{number}?{number}"), std::slice::from_ref(shape), until);
        }
        assert_eq!(recall(&mut memory, FIRST, "/0", now).ok(), Some("ann"), "by its path");
        assert_eq!(recall(&mut memory, FIRST, "/9?1", now).ok(), Some("ann"), "by its query");
        assert_eq!(recall(&mut memory, FIRST, "/9?9", now).ok(), None);
        for shape in shapes {
            let answer = Rc::new(Subject("ann"));
            memory.remember_acceptance(FIRST, &[0; SHAPES], &head("/"), (&[shape], until), &answer);
        }
        assert_eq!(memory.habits[&1].shapes.len(), SHAPES);
    }

    #[test]
    fn what_never_comes_again_is_soon_remembered_rarely() {
        let mut memory = Memory::default();
        let until = Instant::now() + Duration::from_secs(10);
        let mut given = |range: std::ops::Range<usize>| {
            range
                .filter(|number| {
                    let leave = recall(&mut memory, FIRST, &format!("/{number}"), until);
                    matches!(leave, Err(MissToken(Some(_))))
                })
                .count()
        };
        assert_eq!(given(0..128), 128);
        assert_eq!(given(128..128 + 310), 10);
    }
}
