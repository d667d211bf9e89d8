//! The report as a Markdown table, with the date and the machine. In the book, hand-written text stands above a
//! marker, and the results below it.

use std::fmt::Write as _;

use super::{Report, say};

/// A sentence and a table.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!(
        "{}. {}. {}, medians with (least to greatest).\n\n\
         | row | subject | ratio | relative to | size | aim |\n|---|---|---|---|---|---|\n",
        report.machine.describe(),
        report.describe_peers(),
        report.describe_run()
    );
    for section in &report.sections {
        for (index, line) in section.lines.iter().enumerate() {
            let ratio = line.ratio();
            let about = if index == 0 {
                format!("**{}**: {}", section.row.name, section.row.about)
            } else {
                String::new()
            };
            let aim = line.verdict.as_ref().map_or_else(String::new, say);
            let cells = [
                about,
                line.subject.clone(),
                format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.least, ratio.greatest),
                line.to.clone(),
                format!("{:.1} {}", line.value().median, section.row.unit),
                aim,
            ];
            // Writing into a string cannot fail.
            let _ = writeln!(text, "| {} |", cells.map(|cell| escape(&cell)).join(" | "));
        }
    }
    for (row, reason) in &report.failures {
        let _ = writeln!(text, "\n{} could not be measured: {reason}", row.name);
    }
    text
}

/// The results are written below this line, where no hand-written text is kept.
const MARKER: &str = "<!-- The bench writes everything below this line. -->";

/// The document with the results of a run. The text above the marker is kept; a document without the marker is
/// replaced.
pub(crate) fn document(before: Option<&str>, results: &str) -> String {
    match before.and_then(|before| before.split_once(MARKER)) {
        Some((kept, _)) => format!("{kept}{MARKER}\n\n{results}"),
        None => results.to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_has_as_many_cells() {
        let text = text(&super::super::tests::report());
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 + 3);
        for row in rows {
            assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
        }
        assert!(text.starts_with("2026-11-25; 2 cores"));
    }

    #[test]
    fn what_is_written_by_hand_is_kept() {
        let before = format!("# Benchmarks\n\nBy hand.\n\n{MARKER}\n\nold results\n");
        let after = document(Some(&before), "new results\n");
        assert_eq!(after, format!("# Benchmarks\n\nBy hand.\n\n{MARKER}\n\nnew results\n"));
        assert_eq!(document(Some("no marker"), "new"), "new");
        assert_eq!(document(None, "new"), "new");
    }

    #[test]
    fn the_page_of_the_book_has_the_marker() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/benchmarks.md");
        assert!(std::fs::read_to_string(page).expect("the page").contains(MARKER));
    }
}
