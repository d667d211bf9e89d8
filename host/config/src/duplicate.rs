//! Finds the first of two keys with the same name in one file, which the parser's message does not show.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The most duplicates of a file for which the first key is searched, because each search parses the file again.
pub(crate) const SEARCHES: usize = 8;

/// The position of the key that stands first, where the key at `second` has the same name in the same table.
///
/// The second key is replaced by another name of the same length, so that the positions stay the same. Parsed again,
/// the text has both keys in one table.
pub(crate) fn first(text: &str, second: Range<usize>) -> Option<Range<usize>> {
    let key = text.get(second.clone())?;
    let entry = format!("{key} = 0");
    let named = DeTable::parse(&entry).ok()?;
    let name = named.get_ref().keys().next()?.get_ref().clone();
    // A name of repeated letters is free in nearly every table; otherwise the next letter is tried.
    (b'A'..=b'Z').find_map(|letter| {
        let other = char::from(letter).to_string().repeat(key.len());
        let renamed = [&text[..second.start], &other, &text[second.end..]].concat();
        let (table, _mistakes) = DeTable::parse_recoverable(&renamed);
        beside(table.get_ref(), &name, second.start)
    })
}

/// The position of the key `name` in the table that has a key at `place`.
fn beside(table: &DeTable, name: &str, place: usize) -> Option<Range<usize>> {
    if table.keys().any(|key| key.span().start == place) {
        return position(table, name);
    }
    table.values().find_map(|value| beside_within(value.get_ref(), name, place))
}

fn beside_within(value: &DeValue, name: &str, place: usize) -> Option<Range<usize>> {
    match value {
        DeValue::Table(table) => beside(table, name, place),
        DeValue::Array(items) => items.iter().find_map(|item| beside_within(item.get_ref(), name, place)),
        _ => None,
    }
}

fn position(table: &DeTable, name: &str) -> Option<Range<usize>> {
    table.keys().find(|key: &&Spanned<Cow<str>>| key.get_ref() == name).map(Spanned::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the first and the second key, by the parser's own message about the second.
    fn lines(text: &str) -> Option<(usize, usize)> {
        let (_, errors) = DeTable::parse_recoverable(text);
        let second = errors.first()?.span()?;
        let line = |place: usize| text[..place].matches('\n').count() + 1;
        Some((line(first(text, second.clone())?.start), line(second.start)))
    }

    #[test]
    fn the_first_is_found_in_every_form_of_a_table() {
        for (text, expected) in [
            ("a = 1\nb = 2\na = 3\n", (1, 3)),
            ("[t]\na = 1\n[u]\na = 1\n\"a\" = 2\n", (4, 5)),
            ("[t]\nx = 1\n\n[u]\n[t]\ny = 2\n", (1, 5)),
            ("[[list]]\na = 1\n[[list]]\na = 2\na = 3\n", (4, 5)),
            ("[t.u]\nx = 1\n[t.u]\n", (1, 3)),
            ("t = { a = 1,\n b = 2,\n a = 3 }\n", (1, 3)),
            ("[t]\na.b = 1\na.c = 1\na.b = 2\n", (2, 4)),
            ("[t]\na = 1\n[[t]]\n", (1, 3)),
            ("'A' = 1\nA = 1\n", (1, 2)),
            ("[x]\na = 1\na.b = 2\n", (2, 3)),
        ] {
            assert_eq!(lines(text), Some(expected), "{text}");
        }
        assert_eq!(first("a = 1\n", 0..1), None, "there is no other");
        assert_eq!(first("a = 1\n", 4..50), None);
    }
}
