//! What each core owns of this crate: memory that one message leaves to the next.

use std::cell::Cell;

use crate::http1::head::Field;

thread_local! {
    /// The vector for the field positions of one head.
    pub(crate) static SPARE_FIELDS_OF_HEAD: Cell<Vec<Field>> = const { Cell::new(Vec::new()) };
    /// The buffer in which a head is written.
    pub(crate) static SPARE_HEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The current second, and its `Date` text.
    pub(crate) static DATE_TEXT: Cell<(u64, [u8; 29])> = const { Cell::new((0, [b' '; 29])) };
}
