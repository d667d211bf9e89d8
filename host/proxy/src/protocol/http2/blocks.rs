//! Follows the frames that a client sends, to find out how long a header block has been unfinished.
//!
//! `h2` hands a request over once its header block is complete, and waits for the rest of one without a limit of time.
//! Meanwhile nothing else can be read from the connection, because no other frame may come in between (RFC 9113 section
//! 6.10). So the bytes are followed here as well: only the heads of frames are looked at.

use tokio::time::Instant;

/// The length of the preface of a client, in bytes (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// The length of the head of a frame, in bytes (RFC 9113 section 4.1).
const HEAD: usize = 9;

/// Types of frames, and the flag that ends a header block (RFC 9113 sections 6.2 and 6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What has arrived of the current frame and header block.
pub(super) struct Blocks {
    /// Bytes of the preface or of the current payload that are still to come.
    left: usize,
    head: [u8; HEAD],
    /// How many bytes of `head` have arrived.
    arrived: usize,
    /// Whether the current frame belongs to a header block.
    of_block: bool,
    /// Whether the current frame is followed by a CONTINUATION.
    continues: bool,
    since: Option<Instant>,
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks { left: PREFACE, head: [0; HEAD], arrived: 0, of_block: false, continues: false, since: None }
    }
}

impl Blocks {
    /// Since when a header block has been unfinished; `None` if there is none.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Takes bytes of the client that arrived at this time.
    pub(super) fn take(&mut self, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            if self.arrived == 0 && !self.continues {
                // Each block has its own time, also if one follows the other directly.
                self.since = None;
            }
            let more = (HEAD - self.arrived).min(bytes.len());
            self.head[self.arrived..self.arrived + more].copy_from_slice(&bytes[..more]);
            self.arrived += more;
            bytes = &bytes[more..];
            if self.arrived == HEAD {
                self.begin_frame();
            }
        }
        // The fourth byte of a head is its type. Until then it may begin a block.
        let begins = match self.arrived {
            0 => false,
            1..=3 => true,
            _ => matches!(self.head[3], HEADERS | CONTINUATION),
        };
        let unfinished = self.continues || begins || self.of_block && self.left > 0;
        self.since = unfinished.then(|| self.since.unwrap_or(now));
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.arrived = 0;
        self.of_block = matches!(kind, HEADERS | CONTINUATION);
        // Within a block any other frame is an error, which `h2` reports.
        self.continues = self.of_block && flags & END_HEADERS == 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::tests::{HEAD as BLOCK, PREFACE, frame};

    /// Whether a header block is unfinished after these bytes, however they arrive.
    fn unfinished(bytes: &[u8]) -> bool {
        let now = Instant::now();
        let mut whole = Blocks::default();
        whole.take(bytes, now);
        let mut trickling = Blocks::default();
        bytes.iter().for_each(|byte| trickling.take(&[*byte], now));
        assert_eq!(whole.since().is_some(), trickling.since().is_some());
        whole.since().is_some()
    }

    #[test]
    fn a_block_is_unfinished_until_its_last_frame_has_arrived() {
        let begin = [PREFACE, &frame(4, 0, 0, &[])].concat();
        let after = |more: &[u8]| unfinished(&[&begin[..], more].concat());
        assert!(!unfinished(&PREFACE[..10]) && !unfinished(&begin));
        let whole = frame(1, 5, 1, BLOCK);
        assert!(!after(&whole));
        for length in 1..whole.len() {
            assert!(after(&whole[..length]), "{length}");
        }
        assert!(after(&frame(1, 1, 1, BLOCK)));
        assert!(after(&[frame(1, 1, 1, BLOCK), frame(9, 0, 1, b"")].concat()));
        assert!(!after(&[frame(1, 1, 1, BLOCK), frame(9, 4, 1, b"")].concat()));
        let data = frame(0, 0, 1, &[0; 50]);
        assert!(!after(&[&whole[..], &data[..20]].concat()), "a body has a limit of its own");
        assert!(!after(&[&whole[..], &data[..4]].concat()), "and so has the head of its next frame");
    }

    #[test]
    fn the_time_of_a_block_begins_with_its_first_byte() {
        let (begin, step) = (Instant::now(), Duration::from_secs(1));
        let mut blocks = Blocks::default();
        blocks.take(PREFACE, begin);
        let (first, second) = (frame(1, 5, 1, BLOCK), frame(1, 1, 3, BLOCK));
        blocks.take(&[&first[..], &second[..4]].concat(), begin + step);
        assert_eq!(blocks.since(), Some(begin + step));
        blocks.take(&second[4..], begin + step * 2);
        blocks.take(&frame(9, 0, 3, b""), begin + step * 3);
        assert_eq!(blocks.since(), Some(begin + step));
        blocks.take(&frame(9, 4, 3, b""), begin + step * 4);
        assert_eq!(blocks.since(), None);
    }
}
