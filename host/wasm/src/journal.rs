//! Where the lines of plugins go.

use witgate_config::model::LogLevel;
use witgate_proxy::telemetry::Telemetry;

/// A log as plugins, and the runtime on their behalf, write to it. Never waits: a full queue drops and counts.
pub trait Journal: Send + Sync {
    /// Whether lines of this level are written at all.
    fn enabled(&self, level: LogLevel) -> bool;

    /// One line of a binding, already escaped and cut.
    fn write(&self, level: LogLevel, binding: &str, message: &str);
}

impl Journal for Telemetry {
    fn enabled(&self, level: LogLevel) -> bool {
        self.logs(level)
    }

    fn write(&self, level: LogLevel, binding: &str, message: &str) {
        self.log(level, message.to_owned(), &[("binding", &binding)]);
    }
}
