//! The report as a chart: a bar for each median, a whisker from minimum to maximum, a line at 1.

use std::fmt::Write as _;

use super::{Line, Report, Section};

const WIDTH: f64 = 960.0;
/// Left edge of the bars; names stand to the left of it.
const LEFT: f64 = 330.0;
/// Right edge of the longest bar; figures stand to the right of it.
const RIGHT: f64 = 760.0;
const STEP: f64 = 20.0;
const TOP: f64 = 70.0;
/// Longer bars are cut off, so that one peer does not compress all others.
const MOST: f64 = 4.0;
const OURS: &str = "#b8430e";
const THEIRS: &str = "#8a93a0";

/// A complete document, readable on light and dark backgrounds.
pub(crate) fn text(report: &Report) -> String {
    let lines: usize = report.sections.iter().map(|section| section.lines.len() + 2).sum();
    let height = TOP + lines as f64 * STEP + STEP;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    label(
        &mut text,
        16.0,
        24.0,
        "start",
        true,
        "Ratios, shorter is better; line at 1, whiskers from least to greatest",
    );
    label(&mut text, 16.0, 42.0, "start", false, &report.machine.describe());
    label(&mut text, 16.0, 58.0, "start", false, &report.describe_peers());
    let mut y = TOP;
    for section in &report.sections {
        y = draw(&mut text, section, y + STEP);
    }
    text + "</svg>\n"
}

/// Draws one row; returns the vertical position of the next one.
fn draw(text: &mut String, section: &Section, mut y: f64) -> f64 {
    label(text, 16.0, y + 13.0, "start", true, &format!("{}: {}", section.row.name, section.row.about));
    y += STEP;
    let top = y;
    for line in &section.lines {
        bar(text, line, y);
        y += STEP;
    }
    let one = across(1.0);
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "<line x1=\"{one:.1}\" y1=\"{top:.1}\" x2=\"{one:.1}\" y2=\"{y:.1}\" stroke=\"#444\" stroke-dasharray=\"2 2\"/>"
    );
    y
}

fn bar(text: &mut String, line: &Line, y: f64) {
    let ratio = line.ratio();
    let color = if line.ours { OURS } else { THEIRS };
    label(text, LEFT - 8.0, y + 13.0, "end", line.ours, &line.subject);
    let middle = y + STEP / 2.0 - 1.0;
    let (least, greatest) = (across(ratio.least), across(ratio.greatest));
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"13\" fill=\"{color}\"/>\n\
         <line x1=\"{least:.1}\" y1=\"{middle:.1}\" x2=\"{greatest:.1}\" y2=\"{middle:.1}\" stroke=\"#111\"/>",
        y + 2.0,
        across(ratio.median) - LEFT
    );
    let cut = if ratio.median > MOST { " (bar cut)" } else { "" };
    label(
        text,
        RIGHT + 8.0,
        y + 13.0,
        "start",
        line.ours,
        &format!("{:.2} x {}{cut}", ratio.median, line.to),
    );
}

/// The horizontal position of a ratio.
fn across(ratio: f64) -> f64 {
    LEFT + ratio.clamp(0.0, MOST) / MOST * (RIGHT - LEFT)
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, bold: bool, words: &str) {
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{weight} fill=\"#111\">{}</text>",
        escape(words)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the elements that are still open at the end; panics if the markup is not well-formed.
    fn open_elements(mut text: &str) -> Vec<&str> {
        let mut open = Vec::new();
        while let Some(start) = text.find('<') {
            let words = &text[..start];
            assert!(!words.contains('>'), "a bare > in {words:?}");
            for entity in words.split('&').skip(1) {
                let name = entity.split(';').next().unwrap();
                assert!(["amp", "lt", "gt", "quot"].contains(&name), "a bare & in {words:?}");
            }
            let end = start + text[start..].find('>').expect("an element that ends");
            let element = &text[start + 1..end];
            assert_eq!(element.matches('"').count() % 2, 0, "quotes of {element:?}");
            let name = element.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if element.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !element.ends_with('/') {
                open.push(name);
            }
            text = &text[end + 1..];
        }
        open
    }

    #[test]
    fn the_chart_is_well_formed_whatever_names_hold() {
        let text = text(&super::super::tests::report());
        assert_eq!(open_elements(&text), Vec::<&str>::new());
        assert!(text.contains("witgate, &lt;a &amp; &quot;b&quot; | c&gt;"));
        assert!(!text.contains("NaN") && !text.contains("inf"));
        // A background, and a bar for each of three lines.
        assert_eq!(text.matches("<rect").count(), 1 + 3);
    }

    #[test]
    fn a_bar_is_as_long_as_its_ratio_and_never_leaves_the_chart() {
        assert_eq!(across(0.0), LEFT);
        assert_eq!(across(2.0), f64::midpoint(LEFT, RIGHT));
        assert_eq!(across(99.0), RIGHT);
    }
}
