//! Where the log lines of plugins go.

use witgate_config::model::LogLevel;

/// A log for lines of plugins, and of the runtime about plugins. It never blocks: if its queue is full, lines are
/// dropped and counted.
pub trait Journal: Send + Sync {
    /// Whether lines of this level are written.
    fn enabled(&self, level: LogLevel) -> bool;

    /// Writes one line of a binding. The line is already escaped and truncated.
    fn write(&self, level: LogLevel, binding: &str, message: &str);
}
