//! The shutdown: requests in flight are finished, new ones are not accepted.

use std::time::{Duration, Instant};

use witgate_config::model::LogLevel;

use super::Control;
use super::handle::Message;
use super::status::GatewayPhase;
use crate::allocator;
use crate::exit::{Exit, ExitResult, Failure};
use crate::process::{self, Notice};

/// Time for the last log lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Time for bindings that observe to be told of the last exchanges.
const LAST_EXCHANGES: Duration = Duration::from_secs(2);

impl Control {
    /// Drains the gateway. `/readyz` already fails; after `drain_delay`, in which load balancers notice that, no
    /// connection is accepted any more except by listeners that drain last; requests in flight then have
    /// `drain_timeout`. A load in progress is left alone and its result is ignored.
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
        let Control { data_plane, telemetry, messages, library, .. } = self;
        // Dropping the messages tells everyone who still waits for a result.
        drop(messages);
        let cut = data_plane.drain(gateway.drain_timeout);
        if let Some(socket) = socket {
            // A stale socket does no harm; the next start replaces it.
            let _ = std::fs::remove_file(socket);
        }
        if !library.loader().flush(LAST_EXCHANGES) {
            telemetry.log(LogLevel::Warn, "plugins were not told of every exchange that has ended", &[]);
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

    /// Dropping the channels tells everyone who waits for a reload that the gateway is shutting down. Nobody can
    /// request another, because the gateway is known to drain.
    fn give_up_loads(&mut self) {
        drop(self.handle.wanted().take());
        self.loading = None;
        self.status.busy = None;
        self.status.phase = GatewayPhase::Draining;
        self.publish();
    }

    /// Handles messages for a time, because there is still traffic: a failing plugin is still reverted.
    fn go_on(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.messages.recv_timeout(left) {
                // Nobody waits for the result of a load any more.
                Ok(Message::Loaded(finished)) => drop(finished),
                Ok(message) => self.carry_out(message),
                Err(_) => return,
            }
            allocator::give_back();
        }
    }
}
