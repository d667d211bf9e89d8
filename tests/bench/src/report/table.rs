//! The report as a table for a terminal.

use std::fmt::Write as _;

use super::{Report, say};

/// Minimum, median and maximum ratio of each line, its value, and its aim.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!(
        "\n{}\n{}\n{}; ratios within a round\n",
        report.machine.describe(),
        report.describe_peers(),
        report.describe_run()
    );
    for (name, version) in &report.peers {
        if let Err(package) = version {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name} is not compared: install {package}");
        }
    }
    for section in &report.sections {
        let _ = writeln!(text, "\n{}: {}", section.row.name, section.row.about);
        let _ = writeln!(
            text,
            "  {:44} {:>7} {:>7} {:>7} {:>16}  relative to; aim",
            "", "min", "median", "max", section.row.unit
        );
        for line in &section.lines {
            let (ratio, value) = (line.ratio(), line.value());
            let aim = line.verdict.as_ref().map_or_else(String::new, |verdict| format!("; {}", say(verdict)));
            let _ = writeln!(
                text,
                "  {:44} {:7.2} {:7.2} {:7.2} {:16.1}  {}{aim}",
                line.subject, ratio.least, ratio.median, ratio.greatest, value.median, line.to
            );
        }
    }
    for (row, reason) in &report.failures {
        let _ = writeln!(text, "\n{}: could not be measured: {reason}", row.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_shows_its_spread_and_its_aim() {
        let text = text(&super::super::tests::report());
        let ours = text.lines().find(|line| line.contains("witgate, <a")).unwrap();
        let words: Vec<_> = ours.split_whitespace().collect();
        assert!(words.windows(4).any(|words| words == ["1.00", "1.10", "1.20", "22.0"]), "{ours}");
        assert!(ours.ends_with("<= 0.95: missed; at least <= 1.05: missed"));
        assert!(text.contains("envoy is not compared: install envoy"));
        assert!(text.contains("plugins: could not be measured: no luck"));
    }
}
