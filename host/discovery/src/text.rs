//! Text from outside of this process, in messages.

/// A message in one line of bounded length: it may quote what somebody else has written.
pub(crate) fn one_line(message: &str) -> String {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.trim().to_owned()
}

/// The first characters of a text.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
