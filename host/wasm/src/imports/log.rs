//! Interface `log`: lines of plugins in the gateway's log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use witgate_config::model::LogLevel;

use crate::bindings::witgate::plugin::log::{Host, Level};
use crate::input_tracker::Mark;
use crate::rights::Rights;
use crate::state::HostState;

/// The longest line, in bytes; longer lines are truncated.
const LINE: usize = 4 << 10;

impl Host for HostState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.marked(Mark::Log)?;
        deliver(&self.rights, level.into(), &message);
        Ok(())
    }

    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        self.marked(Mark::Log)?;
        Ok(self.rights.journal.enabled(level.into()))
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        }
    }
}

/// Writes a line of a binding, if its rate limit allows.
pub(crate) fn deliver(rights: &Rights, level: LogLevel, message: &str) {
    if !rights.journal.enabled(level) {
        return;
    }
    match rights.pace.admit() {
        Pacing::Free => rights.journal.write(level, &rights.binding, &printable(message)),
        Pacing::Last => rights.journal.write(level, &rights.binding, &(printable(message) + LEFT_OUT)),
        Pacing::Over => rights.meter.log_line_dropped(),
    }
}

/// Added to the last line that is written in a second, because lines after it may be missing.
pub(crate) const LEFT_OUT: &str = " (the limit of lines: any further ones of this second are left out)";

/// Whether one more line may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// It may.
    Free,
    /// It may, and no other one in this second.
    Last,
    /// It must not.
    Over,
}

/// The line, truncated at a character boundary, with control characters escaped.
fn printable(message: &str) -> String {
    let mut end = message.len().min(LINE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut line = String::with_capacity(end);
    for character in message[..end].chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    if end < message.len() {
        line.push('…');
    }
    line
}

/// Limits the lines per second over all cores. The current second and the number of lines in it share one atomic
/// number.
pub(crate) struct Pace {
    limit: u32,
    begun: Instant,
    window: AtomicU64,
}

impl Pace {
    /// Allows at most `limit` lines in each second.
    pub(crate) fn new(limit: u32) -> Self {
        Pace { limit, begun: Instant::now(), window: AtomicU64::new(0) }
    }

    /// Counts one more line.
    pub(crate) fn admit(&self) -> Pacing {
        // The seconds wrap around after 136 years of uptime of one version.
        let second = (self.begun.elapsed().as_secs() & u64::from(u32::MAX)) << 32;
        let counted = self.window.try_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            if window & !u64::from(u32::MAX) != second {
                return (self.limit > 0).then_some(second | 1);
            }
            (window & u64::from(u32::MAX) < u64::from(self.limit)).then_some(window + 1)
        });
        let before = |window: u64| {
            if window & !u64::from(u32::MAX) == second { window & u64::from(u32::MAX) } else { 0 }
        };
        match counted {
            Ok(window) if before(window) + 1 == u64::from(self.limit) => Pacing::Last,
            Ok(_) => Pacing::Free,
            Err(_) => Pacing::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_lines_cut() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        let long = "ü".repeat(LINE);
        let line = printable(&long);
        assert_eq!(line.len(), LINE + '…'.len_utf8());
    }

    #[test]
    fn a_second_has_room_for_the_limit() {
        let pace = Pace::new(3);
        let paced: Vec<Pacing> = (0..100).map(|_| pace.admit()).collect();
        let written = paced.iter().filter(|pacing| **pacing != Pacing::Over).count();
        assert!(
            (3..=6).contains(&written),
            "at most two seconds can have begun, {written} lines were written"
        );
        let over = paced.iter().position(|pacing| *pacing == Pacing::Over).expect("the limit is reached");
        assert_eq!(paced[over - 1], Pacing::Last, "the last line before says so");
        assert_eq!(Pace::new(0).admit(), Pacing::Over);
    }
}
