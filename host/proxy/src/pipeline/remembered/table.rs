//! A hash table of fixed size.
//!
//! The hash of an entry selects four slots. A new entry replaces the oldest of the four, so that nothing has to be
//! moved or kept in order. The number of bytes is limited too: when it is exceeded, slots are emptied in turn.
//! Each insertion also empties some slots of discarded entries.

use std::any::Any;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::time::Instant;

use foldhash::quality::RandomState;

use super::Rememberable;
use super::key::Basis;

/// The most results that a core remembers; a power of two.
const SLOTS: usize = 8192;
/// Number of slots in which an entry may be.
const WAYS: usize = 4;
/// The most bytes, approximately, of the remembered results of a core.
const BYTES: usize = 8 << 20;
/// Bytes that an entry counts for in addition to its key and its content.
const OVERHEAD: usize = 192;
/// Slots that each insertion searches for discarded entries.
const SWEPT: usize = 8;

/// The remembered results of one core.
pub(super) struct Table {
    hasher: RandomState,
    /// The hash of the entry in each slot, zero if there is none. They are separate from the slots, so that a miss
    /// reads only one cache line. Empty until the first insertion.
    hashes: Box<[u64]>,
    slots: Box<[Slot]>,
    size: usize,
    bytes: usize,
    bytes_limit: usize,
    /// Number of insertions so far.
    count: u64,
    /// Entries with a number up to this one are discarded.
    forgotten: u64,
    /// The slot that is examined next.
    hand: usize,
    /// The inputs in clear of the key that was hashed last.
    plain: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    /// Number of the insertion.
    number: u64,
    entry: Option<Box<Entry>>,
}

/// A result and its key.
pub(super) struct Entry {
    /// Identifies the owner and the kind of the result.
    tag: u64,
    plain: Box<[u8]>,
    digest: Option<[u8; 32]>,
    until: Option<Instant>,
    answer: Rc<dyn Any>,
    size: usize,
}

impl Entry {
    /// The result. It has the type with which it was remembered, because the tag identifies that type.
    pub(super) fn answer<T: Rememberable>(&self) -> Option<Rc<T>> {
        Rc::clone(&self.answer).downcast().ok()
    }

    /// Whether the result has not expired.
    pub(super) fn holds(&self, now: impl Fn() -> Instant) -> bool {
        self.until.is_none_or(|until| until > now())
    }
}

impl Default for Table {
    fn default() -> Self {
        Table::new(SLOTS, BYTES)
    }
}

impl Table {
    /// `size` is a power of two and at least [`WAYS`].
    fn new(size: usize, bytes_limit: usize) -> Self {
        Table {
            hasher: RandomState::default(),
            hashes: Box::default(),
            slots: Box::default(),
            size,
            bytes: 0,
            bytes_limit,
            count: 0,
            forgotten: 0,
            hand: 0,
            plain: Vec::new(),
        }
    }

    /// The hash of a key; never zero. The part of the key in clear is kept for the next [`find`](Table::find).
    pub(super) fn hash(&mut self, tag: u64, basis: &Basis<'_>) -> u64 {
        self.plain.clear();
        basis.write_plain(&mut self.plain);
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(tag);
        hasher.write(&self.plain);
        basis.hash_secrets(&mut hasher);
        hasher.finish().max(1)
    }

    /// The entry whose key was hashed last.
    pub(super) fn find(&self, tag: u64, hash: u64, basis: &Basis<'_>) -> Option<&Entry> {
        let set = self.set(hash);
        let way = self.hashes.get(set.clone())?.iter().position(|known| *known == hash)?;
        let slot = &self.slots[set.start + way];
        let entry = slot.entry.as_deref().filter(|_| slot.number > self.forgotten)?;
        let same =
            entry.tag == tag && *entry.plain == *self.plain && entry.digest == basis.digest_of_secrets();
        same.then_some(entry)
    }

    /// Inserts a result.
    pub(super) fn insert<T: Rememberable>(
        &mut self,
        tag: u64,
        hash: u64,
        basis: &Basis<'_>,
        until: Option<Instant>,
        answer: &Rc<T>,
    ) {
        self.plain.clear();
        basis.write_plain(&mut self.plain);
        let size = self.plain.len() + answer.size() + OVERHEAD;
        if size > self.bytes_limit / 16 {
            return;
        }
        if self.slots.is_empty() {
            self.hashes = vec![0; self.size].into();
            self.slots = (0..self.size).map(|_| Slot::default()).collect();
        }
        self.make_room(size);
        let entry = Entry {
            tag,
            plain: self.plain.as_slice().into(),
            digest: basis.digest_of_secrets(),
            until,
            answer: Rc::clone(answer) as Rc<dyn Any>,
            size,
        };
        self.count += 1;
        let place = self.place(hash);
        self.hashes[place] = hash;
        let slot = &mut self.slots[place];
        slot.number = self.count;
        self.bytes += size;
        if let Some(replaced) = slot.entry.replace(Box::new(entry)) {
            self.bytes -= replaced.size;
        }
    }

    /// Discards all entries. Their memory is freed later, by insertions.
    pub(super) fn forget(&mut self) {
        self.forgotten = self.count;
    }

    /// The slots in which an entry may be.
    fn set(&self, hash: u64) -> std::ops::Range<usize> {
        let first = hash as usize & (self.size - 1) & !(WAYS - 1);
        first..first + WAYS
    }

    /// The slot for a new entry: that of an entry with the same hash, or else that of the oldest.
    fn place(&self, hash: u64) -> usize {
        let set = self.set(hash);
        let same = set.clone().find(|slot| self.hashes[*slot] == hash);
        same.or_else(|| set.clone().min_by_key(|slot| self.slots[*slot].number)).unwrap_or(set.start)
    }

    fn make_room(&mut self, size: usize) {
        let forgotten = self.forgotten;
        for _ in 0..SWEPT {
            self.step(|slot| slot.number <= forgotten);
        }
        while self.bytes + size > self.bytes_limit {
            self.step(|_| true);
        }
    }

    /// Examines the next slot in turn, and empties it if `can_go` allows that.
    fn step(&mut self, can_go: impl FnOnce(&Slot) -> bool) {
        let slot = &mut self.slots[self.hand];
        if can_go(slot)
            && let Some(entry) = std::mem::take(slot).entry
        {
            self.hashes[self.hand] = 0;
            self.bytes -= entry.size;
        }
        self.hand = (self.hand + 1) % self.size;
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Method};
    use witgate_exchange::contracts::Input;
    use witgate_exchange::credentials::Credentials;
    use witgate_exchange::head::RequestHead;

    use super::*;
    use crate::testing;

    struct Number(usize, usize);

    impl Rememberable for Number {
        fn size(&self) -> usize {
            self.1
        }
    }

    const BY_PATH: [Input; 1] = [Input::Path];

    fn head(path: &str) -> RequestHead {
        testing::head(Method::GET, path, &[("cookie", path)])
    }

    fn basis<'a>(head: &'a RequestHead, inputs: &'a [Input]) -> Basis<'a> {
        Basis { inputs, head, shown: None, secret: false, credentials: Credentials::visible() }
    }

    fn insert(table: &mut Table, tag: u64, path: &str, number: Number) {
        let head = head(path);
        let basis = basis(&head, &BY_PATH);
        let hash = table.hash(tag, &basis);
        table.insert(tag, hash, &basis, None, &Rc::new(number));
    }

    fn find(table: &mut Table, tag: u64, path: &str) -> Option<usize> {
        let head = head(path);
        let basis = basis(&head, &BY_PATH);
        let hash = table.hash(tag, &basis);
        table.find(tag, hash, &basis)?.answer::<Number>().map(|number| number.0)
    }

    fn bytes(table: &Table) -> usize {
        table.slots.iter().filter_map(|slot| slot.entry.as_ref()).map(|entry| entry.size).sum()
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_the_newest_is_there() {
        let mut table = Table::new(64, 16 << 10);
        for number in 0..10_000 {
            insert(&mut table, 1, &format!("/{number}"), Number(number, number % 500));
            assert_eq!(find(&mut table, 1, &format!("/{number}")), Some(number));
        }
        assert_eq!(table.slots.len(), 64);
        assert_eq!(table.bytes, bytes(&table));
        assert!(table.bytes <= 16 << 10);
        insert(&mut table, 1, "/large", Number(0, 1 << 10));
        assert_eq!(find(&mut table, 1, "/large"), None);
    }

    #[test]
    fn the_oldest_of_a_set_makes_room_and_the_same_question_keeps_one_place() {
        let mut table = Table::new(WAYS, 1 << 20);
        for number in 0..WAYS + 1 {
            insert(&mut table, 1, &format!("/{number}"), Number(number, 0));
            insert(&mut table, 1, "/same", Number(number, 0));
        }
        assert_eq!(find(&mut table, 1, "/same"), Some(WAYS));
        assert_eq!(find(&mut table, 1, "/0"), None);
        assert_eq!(find(&mut table, 1, &format!("/{WAYS}")), Some(WAYS));
    }

    #[test]
    fn an_equal_hash_is_no_equal_question() {
        let mut table = Table::new(64, 1 << 20);
        let by_cookie = [Input::Header(HeaderName::from_static("cookie"))];
        for inputs in [&BY_PATH[..], &by_cookie] {
            let (one, other) = (head("/one"), head("/other"));
            let hash = table.hash(1, &basis(&one, inputs));
            table.insert(1, hash, &basis(&one, inputs), None, &Rc::new(Number(1, 0)));
            assert!(table.find(1, hash, &basis(&one, inputs)).is_some());
            assert!(table.find(2, hash, &basis(&one, inputs)).is_none(), "another function");
            // This sets the key in clear, as every search does. The hash that it returns is ignored, as if the
            // hashes of both keys were equal.
            table.hash(1, &basis(&other, inputs));
            assert!(table.find(1, hash, &basis(&other, inputs)).is_none());
        }
    }

    #[test]
    fn credentials_are_kept_as_digests_only() {
        let mut table = Table::new(64, 1 << 20);
        let by_cookie = [Input::Path, Input::Header(HeaderName::from_static("cookie"))];
        let head = testing::head(Method::GET, "/path", &[("cookie", "geheim")]);
        let basis = basis(&head, &by_cookie);
        let hash = table.hash(1, &basis);
        table.insert(1, hash, &basis, None, &Rc::new(Number(1, 0)));
        let entry = table.find(1, hash, &basis).expect("it was remembered");
        assert!(entry.plain.windows(5).any(|part| part == b"/path"));
        assert!(!entry.plain.windows(6).any(|part| part == b"geheim"));
        assert!(!table.plain.windows(6).any(|part| part == b"geheim"));
        assert!(entry.digest.is_some());
    }

    #[test]
    fn what_is_forgotten_is_not_found_and_goes_as_others_come() {
        let mut table = Table::new(256, 1 << 20);
        for number in 0..100 {
            insert(&mut table, 1, &format!("/{number}"), Number(number, 0));
        }
        table.forget();
        assert!((0..100).all(|number| find(&mut table, 1, &format!("/{number}")).is_none()));
        for number in 0..256 / SWEPT {
            insert(&mut table, 1, &format!("/new/{number}"), Number(number, 0));
        }
        let left = table.slots.iter().filter(|slot| slot.entry.is_some()).count();
        assert!(left <= 256 / SWEPT, "{left}");
        assert_eq!(table.bytes, bytes(&table));
    }
}
