//! What each core owns of this crate: its connections to endpoints, and memory that one request leaves to the next.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;

use crate::connection::pool::Pool;

thread_local! {
    /// The connections of the core.
    pub(crate) static POOL: RefCell<Pool> = RefCell::default();
    /// The read buffer. Received bytes are split off, and the rest serves the next connection. Thus neither idle
    /// connections nor connections that wait for a response hold a buffer.
    pub(crate) static READ_ROOM: Cell<BytesMut> = Cell::new(BytesMut::new());
    /// The buffer in which heads are written. One is enough, because only one request is written at a time, and the
    /// socket rarely takes less than all of it.
    pub(crate) static SPARE_HEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
