//! What is kept of a body that streams, so that it can be sent again: within a bound for each, and one for all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

/// A piece of at least so many bytes is held as it came, which copies nothing.
const LARGE: usize = 16 * 1024;

/// So are as many small ones. A small piece may hold on to a read buffer many times its size, so further small pieces are
/// copied into one place.
const FEW: usize = 4;

/// How much may be kept.
#[derive(Clone)]
pub(super) struct Room {
    /// Bytes of one body.
    pub(super) each: usize,
    /// Bytes of all bodies of the upstream.
    pub(super) all: usize,
    /// Bytes that are kept of all bodies of the upstream now.
    pub(super) taken: Arc<AtomicUsize>,
}

/// What is kept of one body.
pub(super) struct Kept {
    room: Room,
    pieces: Vec<Bytes>,
    /// Copies of small pieces, behind all others.
    tail: BytesMut,
    bytes: usize,
}

impl Kept {
    pub(super) fn new(room: Room) -> Kept {
        Kept { room, pieces: Vec::new(), tail: BytesMut::new(), bytes: 0 }
    }

    /// Keeps one more piece, if there is room.
    pub(super) fn keep(&mut self, piece: &Bytes) -> bool {
        if self.bytes + piece.len() > self.room.each || !self.take_room(piece.len()) {
            return false;
        }
        if piece.len() >= LARGE || (self.pieces.len() < FEW && self.tail.is_empty()) {
            self.settle();
            self.pieces.push(piece.clone());
        } else {
            self.tail.extend_from_slice(piece);
        }
        true
    }

    fn take_room(&mut self, bytes: usize) -> bool {
        let before = self.room.taken.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        let fits = before + bytes <= self.room.all;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&mut self, bytes: usize) {
        self.room.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }

    /// Makes a piece of the copies, so that all pieces can be given out.
    pub(super) fn settle(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    /// A piece; before the first is asked for, [`Kept::settle`].
    pub(super) fn piece(&self, index: usize) -> Option<Bytes> {
        self.pieces.get(index).cloned()
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// All of it in one.
    pub(super) fn whole(&mut self) -> Bytes {
        self.settle();
        match self.pieces.as_slice() {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        }
    }

    /// Lets everything go.
    pub(super) fn clear(&mut self) {
        (self.pieces, self.tail) = (Vec::new(), BytesMut::new());
        self.give_back(self.bytes);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Room for so many bytes of each body.
    pub(in crate::upstream::deliver) fn room(each: usize) -> Room {
        counted(each, usize::MAX).0
    }

    /// Room, and how much of it is taken.
    pub(in crate::upstream::deliver) fn counted(each: usize, all: usize) -> (Room, impl Fn() -> usize) {
        let taken = Arc::<AtomicUsize>::default();
        (Room { each, all, taken: taken.clone() }, move || taken.load(Ordering::Relaxed))
    }

    #[test]
    fn large_pieces_and_the_first_few_are_held_as_they_came_and_the_rest_is_gathered() {
        let mut kept = Kept::new(room(1 << 20));
        let (small, large) = (Bytes::from(vec![b's'; 10]), Bytes::from(vec![b'l'; LARGE]));
        let mut all = Vec::new();
        for piece in [&small, &small, &small, &small, &small, &small, &large, &small, &small] {
            assert!(kept.keep(piece));
            all.extend_from_slice(piece);
        }
        kept.settle();
        let lengths: Vec<usize> = kept.pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [10, 10, 10, 10, 20, LARGE, 20]);
        assert_eq!(kept.pieces[0].as_ptr(), small.as_ptr());
        assert_eq!(kept.pieces[5].as_ptr(), large.as_ptr());
        assert_eq!(kept.whole(), all);
    }
}
