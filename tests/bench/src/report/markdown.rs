//! The same as a table in Markdown, with the date and the machine's shape.

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
}
