//! Lines in the gateway's log. A binding may write a limited number a second; what is over is counted.

use std::fmt::Display;

use super::backend;

pub use crate::bindings::host::witgate::plugin::log::Level;

/// Writes a line, if lines of this level are written at all. Takes `format_args!(...)` as well as text, and does not
/// format what is not written. Control characters are escaped and more than 4 KiB is cut.
pub fn write(level: Level, message: impl Display) {
    if backend::log::enabled(level) {
        backend::log::write(level, &message.to_string());
    }
}

/// A line for whoever debugs the plugin.
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// A line about the normal course of things.
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// A line about something the operator may want to look at.
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// A line about something the operator has to look at.
pub fn error(message: impl Display) {
    write(Level::Error, message);
}
