//! The values in a database: each begins with a byte for its kind and size.

use super::Damage;

/// How much is read at once: more than the record of a country has.
const WINDOW: usize = 2048;

/// How deep values may lie in each other, and how many pointers may follow each other.
const DEEPEST: u32 = 16;

/// The most values that are looked at for one address.
const MOST: u32 = 4096;

/// Where a value begins, in bytes from the beginning of the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position(pub(super) u64);

/// Kinds of values.
const POINTER: u8 = 1;
const TEXT: u8 = 2;
const MAP: u8 = 7;
const LIST: u8 = 11;
const BOOLEAN: u8 = 14;
/// Unsigned numbers of 16, 32, 64 and 128 bits.
const NUMBERS: [u8; 4] = [5, 6, 9, 10];

/// Kind and size of a value, and where its contents begin. The size of a pointer is the place that it points to; that of a map
/// or a list is the number of its members.
struct Head {
    kind: u8,
    size: u64,
    contents: u64,
}

/// Reads values. `R` reads bytes from a place on: as many as asked for, or fewer at the end.
pub(super) struct Values<R> {
    read: R,
    window: Vec<u8>,
    /// Where the window begins.
    base: u64,
    looks: u32,
}

impl<R: Fn(u64, usize) -> Result<Vec<u8>, Damage>> Values<R> {
    /// Nothing is read yet.
    pub(super) fn new(read: R) -> Self {
        Self { read, window: Vec::new(), base: 0, looks: 0 }
    }

    /// The value of a member of a map; `None` if there is none, or it is no map.
    pub(super) fn member(&mut self, map: Position, name: &str) -> Result<Option<Position>, Damage> {
        let head = self.resolved(map)?;
        if head.kind != MAP {
            return Ok(None);
        }
        let mut place = head.contents;
        for _ in 0..head.size {
            let is_it = self.text(Position(place))?.is_some_and(|known| known == name);
            let value = self.behind(place, 0)?;
            if is_it {
                return Ok(Some(Position(value)));
            }
            place = self.behind(value, 0)?;
        }
        Ok(None)
    }

    /// A text; `None` if it is another value.
    pub(super) fn text(&mut self, place: Position) -> Result<Option<String>, Damage> {
        let head = self.resolved(place)?;
        if head.kind != TEXT {
            return Ok(None);
        }
        let length = usize::try_from(head.size).ok().filter(|length| *length <= WINDOW);
        let bytes = self.bytes(head.contents, length.ok_or("a name in it is too long")?)?;
        Ok(String::from_utf8(bytes.to_vec()).ok())
    }

    /// A number that is not negative; `None` if it is another value.
    pub(super) fn number(&mut self, place: Position) -> Result<Option<u64>, Damage> {
        let head = self.resolved(place)?;
        if !NUMBERS.contains(&head.kind) || head.size > 8 {
            return Ok(None);
        }
        self.unsigned(head.contents, head.size as usize).map(Some)
    }

    /// The head of a value, behind all pointers.
    fn resolved(&mut self, place: Position) -> Result<Head, Damage> {
        let mut place = place.0;
        for _ in 0..DEEPEST {
            let head = self.head(place)?;
            if head.kind != POINTER {
                return Ok(head);
            }
            place = head.size;
        }
        Err("pointers in it lead in a circle")
    }

    /// The place behind a value.
    fn behind(&mut self, place: u64, depth: u32) -> Result<u64, Damage> {
        if depth > DEEPEST {
            return Err("values in it lie too deep in each other");
        }
        let head = self.head(place)?;
        let members = match head.kind {
            POINTER | BOOLEAN => return Ok(head.contents),
            MAP => head.size * 2,
            LIST => head.size,
            _ => return Ok(head.contents + head.size),
        };
        let mut place = head.contents;
        for _ in 0..members {
            place = self.behind(place, depth + 1)?;
        }
        Ok(place)
    }

    fn head(&mut self, place: u64) -> Result<Head, Damage> {
        self.looks += 1;
        if self.looks > MOST {
            return Err("a record in it has too many values");
        }
        let first = self.bytes(place, 1)?[0];
        let mut next = place + 1;
        let mut kind = first >> 5;
        if kind == 0 {
            kind = self.bytes(next, 1)?[0].saturating_add(7);
            next += 1;
        }
        if kind == POINTER {
            let (count, high) = (usize::from(first >> 3 & 3), u64::from(first & 7));
            let low = self.unsigned(next, count + 1)?;
            let target = match count {
                0 => high << 8 | low,
                1 => (high << 16 | low) + 2048,
                2 => (high << 24 | low) + 526_336,
                _ => low,
            };
            return Ok(Head { kind, size: target, contents: next + count as u64 + 1 });
        }
        let (size, more) = match first & 31 {
            29 => (29 + self.unsigned(next, 1)?, 1),
            30 => (285 + self.unsigned(next, 2)?, 2),
            31 => (65_821 + self.unsigned(next, 3)?, 3),
            size => (u64::from(size), 0),
        };
        Ok(Head { kind, size, contents: next + more })
    }

    /// A number in at most 8 bytes, the first of which counts most.
    fn unsigned(&mut self, place: u64, length: usize) -> Result<u64, Damage> {
        Ok(self.bytes(place, length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn bytes(&mut self, place: u64, length: usize) -> Result<&[u8], Damage> {
        let offset = |base: u64| usize::try_from(place.checked_sub(base)?).ok();
        let fits = offset(self.base).is_some_and(|at| at + length <= self.window.len());
        if !fits {
            self.window = (self.read)(place, WINDOW)?;
            self.base = place;
        }
        let at = offset(self.base).unwrap_or(usize::MAX);
        self.window.get(at..at.saturating_add(length)).ok_or("a value leads out of its data")
    }
}
