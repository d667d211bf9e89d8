//! The streams of one connection, as far as its lifetime is concerned.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::lifetime::UnderWay;

/// How many streams are open, and whether more may come.
pub(super) struct Streams {
    open: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Set once nothing new may begin.
    last: Cell<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Streams { open: Cell::new(0), idle_since: Cell::new(Instant::now()), last: Cell::new(false) }
    }
}

impl Streams {
    /// Requests and tunnels under way.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Whether the client is to be told now that nothing new may begin.
    pub(super) fn take_end(&self) -> bool {
        self.last.take()
    }
}

impl UnderWay for Streams {
    fn has_begun(&self) -> bool {
        self.open.get() > 0
    }

    fn is_fresh(&self) -> bool {
        false
    }

    /// GOAWAY leaves what has begun alone (RFC 9113 section 6.8).
    fn can_be_told(&self) -> bool {
        true
    }

    fn end(&self) {
        self.last.set(true);
    }

    async fn idle_for(&self, time: Duration) {
        loop {
            let due = if self.has_begun() { Instant::now() + time } else { self.idle_since.get() + time };
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A stream counted among those of its connection.
pub(super) struct OpenStream(Rc<Streams>);

impl OpenStream {
    /// Counts one more.
    pub(super) fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        OpenStream(streams.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}
