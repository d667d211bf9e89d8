//! Tables in Markdown.

/// A table with a heading for each column. A table without rows is empty text.
pub(super) fn table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut lines: Vec<String> = rows.into_iter().map(|row| line(&row.map(|cell| escape(&cell)))).collect();
    if lines.is_empty() {
        return String::new();
    }
    lines.insert(0, line(&headings.map(String::from)));
    lines.insert(1, format!("|{}\n", "---|".repeat(COLUMNS)));
    lines.concat() + "\n"
}

fn line(cells: &[String]) -> String {
    let filled: Vec<String> = cells.iter().map(|cell| format!(" {cell} ").replace("  ", " ")).collect();
    format!("|{}|\n", filled.join("|"))
}

/// Escapes the text of a cell: line breaks, bars, and what looks like HTML outside of code.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    let mut in_code = false;
    for character in text.chars() {
        in_code ^= character == '`';
        match character {
            '\n' => escaped.push(' '),
            '|' => escaped.push_str("\\|"),
            '<' if !in_code => escaped.push_str("&lt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The text as code; empty if the text is empty.
pub(super) fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[test]
fn cells_cannot_break_the_table() {
    let text = table(["a", "b"], [["`x | <y>`".to_owned(), "one\ntwo <b>".to_owned()]]);
    assert_eq!(text, "| a | b |\n|---|---|\n| `x \\| <y>` | one two &lt;b> |\n\n");
    assert_eq!(table(["a"], []), "");
}
