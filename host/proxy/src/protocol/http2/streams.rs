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
    /// Set until the client was told that nothing new may begin.
    last: Cell<bool>,
    /// Set once the connection is to be closed, whatever the client says.
    over: Cell<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Streams {
            open: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            last: Cell::new(false),
            over: Cell::new(false),
        }
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

    /// Whether the connection is to be closed now.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }
}

impl UnderWay for Streams {
    fn idle_since(&self) -> Option<Instant> {
        (self.open.get() == 0).then(|| self.idle_since.get())
    }

    /// By GOAWAY, twice (RFC 9113 section 6.8): the first lets streams begin that are on their way, the second, once the
    /// client has seen the first, names the last of them. The connection ends with it.
    fn tell(&self) {
        self.last.set(true);
    }

    /// By a GOAWAY that names the last stream, without waiting until the client has seen the first: it may never say so.
    fn end(&self) {
        self.over.set(true);
    }

    async fn idle_for(&self, time: Duration) {
        loop {
            let due = self.idle_since().unwrap_or_else(Instant::now) + time;
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
