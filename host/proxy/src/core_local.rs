//! What each core owns of this crate: remembered decisions of plugins, and buffers that its connections share. Its
//! connections to endpoints belong to [`witgate_upstream`].

use std::cell::{Cell, RefCell};

use crate::pipeline::remembered::Memory;

/// Bytes requested of a socket at a time. One buffer of this size serves all connections of a core.
const READ_BYTES: usize = 32 * 1024;

thread_local! {
    /// Decisions of plugins that hold for equal inputs.
    pub(crate) static REMEMBERED: RefCell<Memory> = RefCell::new(Memory::default());
    /// The buffer into which connections of HTTP/1 read.
    pub(crate) static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
    /// The buffer in which HTTP/2 frames are gathered. A connection keeps it only while its client does not read.
    pub(crate) static GATHERED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The buffer through which connections are forwarded.
    pub(crate) static FORWARDED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
