//! Lines in the gateway's log. The lines per second of a binding are limited; lines above the limit are dropped
//! and counted.

use std::fmt::Display;

use super::backend;

pub use crate::bindings::host::witgate::plugin::log::Level;

/// Writes a line if its level is enabled. Takes `format_args!(...)` as well as text, and formats only what is
/// written. Control characters are escaped, and lines are truncated to 4 KiB.
pub fn write(level: Level, message: impl Display) {
    if backend::log::enabled(level) {
        backend::log::write(level, &message.to_string());
    }
}

/// A line for debugging the plugin.
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// A line about normal operation.
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// A line about something that the operator may want to check.
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// A line about something that the operator has to check.
pub fn error(message: impl Display) {
    write(Level::Error, message);
}
