//! The streams of one connection, for [`lifetime`](crate::protocol::lifetime).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::lifetime::UnderWay;

/// How many streams are open, and whether more may begin.
pub(super) struct Streams {
    open: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Set when the connection is to end, until the GOAWAY is sent.
    last: Cell<bool>,
    /// Set once the connection is to be closed without waiting for the client.
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
    /// The number of requests and tunnels in flight.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Whether a GOAWAY is to be sent now. True only once.
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

    /// Sends two GOAWAYs (RFC 9113 section 6.8). The first still admits streams that are on their way; the second,
    /// sent once the client has acknowledged the first, names the last stream. The connection ends after that
    /// stream.
    fn tell(&self) {
        self.last.set(true);
    }

    /// Sends the GOAWAY that names the last stream without waiting for the client, which may never acknowledge the
    /// first.
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

/// Guard: a stream is counted among those of its connection until this is dropped.
pub(super) struct OpenStream(Rc<Streams>);

impl OpenStream {
    /// Counts one more stream.
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
