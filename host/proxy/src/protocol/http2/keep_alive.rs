//! PINGs (RFC 9113 section 6.7) that find out whether a silent client is still there.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

use witgate_wire::deadline::Deadline;

/// How long a client may be silent before it gets a PING, and how long it may then take to send anything.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(15);

/// Sends PINGs to a silent client.
pub(super) struct KeepAlive {
    pings: PingPong,
    asked: Option<Instant>,
    timer: Deadline,
}

impl KeepAlive {
    /// Sends PINGs through `pings`.
    pub(super) fn new(pings: PingPong) -> Self {
        KeepAlive { pings, asked: None, timer: Deadline::default() }
    }

    /// Ready once the client is found to be gone; `heard` is the time of the last bytes received from it.
    pub(super) fn poll(&mut self, heard: Instant, context: &mut Context<'_>) -> Poll<()> {
        if self.asked.is_some() && self.pings.poll_pong(context).is_ready() {
            self.asked = None;
        }
        if let Some(asked) = self.asked {
            return self.timer.poll(asked.max(heard) + PING_PATIENCE, context);
        }
        ready!(self.timer.poll(heard + PING_EVERY, context));
        // A failure means that the connection is over, which the frames report.
        if self.pings.send_ping(Ping::opaque()).is_ok() {
            let asked = *self.asked.insert(Instant::now());
            let _ = self.pings.poll_pong(context);
            return self.timer.poll(asked + PING_PATIENCE, context);
        }
        Poll::Pending
    }
}
