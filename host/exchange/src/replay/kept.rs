//! The bytes that are kept of one body.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::memory::{BodyMemory, Reserved};

/// Size in bytes from which a piece is kept as it came, without copying it.
const LARGE: usize = 16 * 1024;

/// Number of small pieces that are kept as they came too. Further small pieces are copied into one buffer, because
/// a small piece may keep alive a read buffer that is many times its size.
const FEW: usize = 4;

/// The kept bytes of one body. All of them are counted in the gateway's [`BodyMemory`].
pub(super) struct KeptPieces {
    reserved: Rc<Reserved>,
    pieces: Vec<Bytes>,
    /// Copies of small pieces, which follow all other pieces.
    tail: BytesMut,
}

/// All bytes of a body. They stay counted until this is dropped.
#[derive(Clone)]
pub struct Whole {
    /// The bytes in one buffer.
    pub bytes: Bytes,
    _reserved: Rc<Reserved>,
}

impl KeptPieces {
    pub(super) fn new(memory: Arc<BodyMemory>) -> KeptPieces {
        KeptPieces { reserved: Rc::new(Reserved::new(memory)), pieces: Vec::new(), tail: BytesMut::new() }
    }

    pub(super) fn memory(&self) -> &BodyMemory {
        self.reserved.memory()
    }

    /// Number of bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.reserved.bytes()
    }

    /// Keeps one more piece. Returns `false` if the memory for bodies is used up.
    pub(super) fn keep(&mut self, piece: &Bytes) -> bool {
        if !self.reserved.take(piece.len()) {
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

    /// Turns the buffer of copies into a piece, so that [`KeptPieces::piece`] can return all pieces.
    pub(super) fn settle(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    /// The piece at this index. [`KeptPieces::settle`] must have been called after the last piece was kept.
    pub(super) fn piece(&self, index: usize) -> Option<Bytes> {
        self.pieces.get(index).cloned()
    }

    /// Number of pieces.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// All bytes in one buffer. Several pieces are copied into a new buffer, which is counted as well. `None` if
    /// the memory for bodies is used up.
    pub(super) fn whole(&mut self) -> Option<Whole> {
        self.settle();
        if self.pieces.len() <= 1 {
            let bytes = self.pieces.first().cloned().unwrap_or_default();
            return Some(Whole { bytes, _reserved: self.reserved.clone() });
        }
        let reserved = Reserved::new(self.reserved.memory().clone());
        let taken = reserved.take(self.bytes());
        taken.then(|| Whole { bytes: self.pieces.concat().into(), _reserved: Rc::new(reserved) })
    }

    /// All bytes in one buffer, which replaces the pieces.
    pub(super) fn joined(&mut self) -> Bytes {
        self.settle();
        if self.pieces.len() > 1 {
            self.pieces = vec![self.pieces.concat().into()];
        }
        self.pieces.first().cloned().unwrap_or_default()
    }

    /// Drops all pieces.
    pub(super) fn clear(&mut self) {
        if self.bytes() > 0 {
            *self = KeptPieces::new(self.reserved.memory().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_and_the_first_few_are_held_as_they_came_and_the_rest_is_gathered() {
        let memory = BodyMemory::new(1 << 20, None);
        let mut kept = KeptPieces::new(memory.clone());
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
        let whole = kept.whole().unwrap();
        assert_eq!(whole.bytes, all);
        assert_eq!(memory.used(), 2 * all.len(), "the copy is counted, too");
        kept.clear();
        assert_eq!((kept.bytes(), memory.used()), (0, all.len()));
        drop(whole);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn one_piece_is_shared_and_counted_once_until_the_last_holder_is_gone() {
        let memory = BodyMemory::new(15, None);
        let mut kept = KeptPieces::new(memory.clone());
        let piece = Bytes::from(vec![b'x'; 10]);
        assert!(kept.keep(&piece));
        let whole = kept.whole().unwrap();
        assert_eq!((whole.bytes.as_ptr(), memory.used()), (piece.as_ptr(), 10));
        kept.clear();
        assert_eq!(memory.used(), 10, "the copy still holds it");
        drop(whole);
        assert_eq!(memory.used(), 0);
        // Two pieces would have to be copied, for which there is no room.
        assert!(kept.keep(&piece) && kept.keep(&Bytes::from_static(b"abcde")) && !kept.keep(&piece));
        assert!(kept.whole().is_none());
        assert_eq!(memory.used(), 15);
    }
}
