//! The end: what is in flight is finished, nothing new is begun.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use witgate_config::model::LogLevel;

use super::Control;
use super::status::Phase;
use crate::exit::{Exit, Failure, Outcome};
use crate::process::{self, Notice};

/// How long the last log lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

impl Control {
    /// `/readyz` fails at once; after `drain_delay`, in which balancers in front notice that, nothing is accepted any
    /// more, but by listeners that drain last; what is in flight then has `drain_timeout`.
    ///
    /// # Errors
    /// Requests had to be cut.
    pub(super) fn drain(mut self, reason: &str) -> Outcome {
        process::notify(Notice::Stopping);
        self.telemetry.log(LogLevel::Info, "draining", &[("reason", &reason)]);
        self.status.phase = Phase::Draining;
        self.handle.publish(self.status.clone());
        let gateway = self.service.config.gateway.clone();
        self.wait(gateway.drain_delay);
        let cut = self.service.data_plane.drain(gateway.drain_timeout);
        if let Some(socket) = &self.service.config.admin.socket {
            // A stale socket does no harm; the next start replaces it.
            let _ = std::fs::remove_file(socket);
        }
        let level = if cut == 0 { LogLevel::Info } else { LogLevel::Error };
        self.telemetry.log(level, "drained", &[("cut", &cut)]);
        self.telemetry.flush(LAST_LINES);
        if cut == 0 {
            return Ok(());
        }
        let message = format!(
            "{cut} requests were still in flight after {:?} and had to be cut",
            gateway.drain_timeout
        );
        Err(Failure::new(Exit::Failure, message))
    }

    /// Lets time pass. Whoever asks for anything in it is told that the gateway is shutting down: their request is dropped.
    fn wait(&self, delay: Duration) {
        let until = Instant::now() + delay;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.requests.recv_timeout(left) {
                Ok(dropped) => drop(dropped),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
