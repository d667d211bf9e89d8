//! The end: what is in flight is finished, nothing new is begun.

use std::time::{Duration, Instant};

use witgate_config::model::LogLevel;

use super::Control;
use super::handle::Message;
use super::status::GatewayPhase;
use crate::allocator;
use crate::exit::{Exit, ExitResult, Failure};
use crate::process::{self, Notice};

/// How long the last log lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

impl Control {
    /// `/readyz` fails since it was asked for; after `drain_delay`, in which balancers in front notice that, nothing is
    /// accepted any more, but by listeners that drain last; what is in flight then has `drain_timeout`. A load under way is
    /// left alone, and nobody takes what it comes to.
    ///
    /// # Errors
    /// Requests had to be cut.
    pub(super) fn drain(mut self) -> ExitResult {
        process::notify(Notice::Stopping);
        let reason = self.handle.drain_reason().unwrap_or("nobody is left to ask for anything").to_owned();
        self.telemetry.log(LogLevel::Info, "draining", &[("reason", &reason)]);
        self.give_up_loads();
        let gateway = self.in_service.config.gateway.clone();
        self.go_on(gateway.drain_delay);
        let socket = self.in_service.config.admin.socket.clone();
        let Control { data_plane, telemetry, messages, .. } = self;
        // Whoever still waits for something is told so by that.
        drop(messages);
        let cut = data_plane.drain(gateway.drain_timeout);
        if let Some(socket) = socket {
            // A stale socket does no harm; the next start replaces it.
            let _ = std::fs::remove_file(socket);
        }
        let level = if cut == 0 { LogLevel::Info } else { LogLevel::Error };
        telemetry.log(level, "drained", &[("cut", &cut)]);
        telemetry.flush(LAST_LINES);
        if cut == 0 {
            return Ok(());
        }
        let message = format!(
            "{cut} requests were still in flight after {:?} and had to be cut",
            gateway.drain_timeout
        );
        Err(Failure::new(Exit::Failure, message))
    }

    /// Who waits for a reload is told that the gateway is shutting down: their place is dropped. No more can be asked for,
    /// because the gateway is known to drain.
    fn give_up_loads(&mut self) {
        drop(self.handle.wanted().take());
        self.loading = None;
        self.status.busy = None;
        self.status.phase = GatewayPhase::Draining;
        self.publish();
    }

    /// Goes on for a time, while traffic still comes: a plugin that fails is still put back.
    fn go_on(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.messages.recv_timeout(left) {
                // Nobody waits for it any more.
                Ok(Message::Loaded(finished)) => drop(finished),
                Ok(message) => self.carry_out(message),
                Err(_) => return,
            }
            allocator::give_back();
        }
    }
}
