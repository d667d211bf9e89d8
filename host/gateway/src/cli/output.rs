//! Output of commands: lists as text for people, as JSON for programs.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::exit::{Exit, ExitResult, Failure};

/// The output option of every command that lists something.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Format {
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Kind::Text)]
    kind: Kind,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// Prints a value in the chosen format.
///
/// # Errors
/// Standard output cannot be written. A closed pipe (`witgate status | head -1`) is no failure.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, text: impl FnOnce() -> String) -> ExitResult {
    match format.kind {
        Kind::Text => say(&text()),
        Kind::Json => {
            let json = serde_json::to_string_pretty(value).map_err(|error| {
                Failure::new(Exit::Failure, format!("this cannot be shown as JSON: {error}"))
            })?;
            say(&format!("{json}\n"))
        }
    }
}

/// Prints text as it is.
///
/// # Errors
/// As [`print()`].
pub(crate) fn say(text: &str) -> ExitResult {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failure, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Rows under headings, in aligned columns. Empty cells are shown as `-`.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| {
            let cell = if cell.is_empty() { "-" } else { cell };
            format!("{cell:<width$}")
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(headings);
    for row in rows {
        text.push_str(&line(row.each_ref().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), String::new()], ["long name".to_owned(), "x".to_owned()]];
        assert_eq!(table(["NAME", "B"], &rows), "NAME       B\na          -\nlong name  x\n");
    }
}
