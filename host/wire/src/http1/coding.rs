//! Reads the elements of `Transfer-Encoding` (RFC 9112 section 7).
//!
//! ```text
//! transfer-coding    = token *( OWS ";" OWS transfer-parameter )
//! transfer-parameter = token BWS "=" BWS ( token / quoted-string )
//! ```

use super::field::trimmed;
use super::head::is_token;

/// A transfer coding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TransferCoding<'a> {
    /// Its name.
    pub(super) name: &'a [u8],
    pub(super) has_parameters: bool,
}

/// The first coding of a list, and the list after its comma; `None` for what is not in this grammar.
pub(super) fn first(list: &[u8]) -> Option<(TransferCoding<'_>, Option<&[u8]>)> {
    let (name, mut rest) = token(trimmed(list))?;
    let mut has_parameters = false;
    loop {
        match trimmed(rest).split_first() {
            None => return Some((TransferCoding { name, has_parameters }, None)),
            Some((b',', after)) => return Some((TransferCoding { name, has_parameters }, Some(after))),
            Some((b';', after)) => {
                rest = parameter(trimmed(after))?;
                has_parameters = true;
            }
            Some(_) => return None,
        }
    }
}

/// What follows the parameter at the beginning of a text.
fn parameter(text: &[u8]) -> Option<&[u8]> {
    let (_, rest) = token(text)?;
    let value = trimmed(trimmed(rest).strip_prefix(b"=")?);
    match value.strip_prefix(b"\"") {
        Some(quoted) => after_quotes(quoted),
        None => token(value).map(|(_, rest)| rest),
    }
}

/// What follows a quoted string (RFC 9110 section 5.6.4), whose first quote is not in `text`.
fn after_quotes(text: &[u8]) -> Option<&[u8]> {
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(&text[at + 1..]),
            b'\\' => drop(bytes.next()?),
            _ => {}
        }
    }
    None
}

/// The token at the beginning of a text, and what follows it.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_element_by_element() {
        for (list, name, has_parameters, rest) in [
            ("gzip", "gzip", false, None),
            (" gzip , chunked", "gzip", false, Some(" chunked")),
            ("gzip;q=1, chunked", "gzip", true, Some(" chunked")),
            ("gzip ; a = b\t;c=\"x, \\\" y\" ,z", "gzip", true, Some("z")),
            ("gzip,", "gzip", false, Some("")),
        ] {
            let expected =
                (TransferCoding { name: name.as_bytes(), has_parameters }, rest.map(str::as_bytes));
            assert_eq!(first(list.as_bytes()), Some(expected), "{list}");
        }
        for list in [
            "",
            ",gzip",
            "gz ip",
            "gzip;",
            "gzip;q",
            "gzip;q=",
            "gzip;=1",
            "gzip;q=\"",
            "gzip;q=\"\\\"",
            "gzip;q=1 2",
        ] {
            assert_eq!(first(list.as_bytes()), None, "{list}");
        }
    }
}
