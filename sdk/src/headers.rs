//! Reading headers without copies: declared headers are passed with the call, others are read once and kept.

use std::cell::OnceCell;
use std::slice;

use crate::bindings::host::witgate::plugin::types::DeclaredHeader;

/// The headers that were passed with a call, and the names that were declared.
#[derive(Default)]
pub(crate) struct DeclaredHeaders<'a> {
    pub(crate) names: &'a [String],
    pub(crate) values: Vec<DeclaredHeader>,
}

impl DeclaredHeaders<'_> {
    /// The values of a header; `None` if its name was not declared.
    pub(crate) fn values(&self, name: &str) -> Option<Values<'_>> {
        let index = self.names.iter().position(|declared| is_named(declared, name))?;
        Some(Values(Kind::Declared { index, values: self.values.iter() }))
    }
}

/// Whether two names are equal, ignoring case. The case is nearly always the same, so that is compared first, in
/// words of eight bytes, because WebAssembly has no fast comparison of bytes.
fn is_named(declared: &str, name: &str) -> bool {
    let (one, one_rest) = declared.as_bytes().as_chunks::<8>();
    let (other, other_rest) = name.as_bytes().as_chunks::<8>();
    let same_words =
        one.iter().zip(other).all(|(one, other)| u64::from_le_bytes(*one) == u64::from_le_bytes(*other));
    let same_rest = one_rest.iter().zip(other_rest).all(|(one, other)| one == other);
    declared.len() == name.len() && (same_words && same_rest || declared.eq_ignore_ascii_case(name))
}

/// Headers that were not declared and were read from the gateway. The list only grows, so that values can be
/// borrowed from it.
#[derive(Default)]
pub(crate) struct ReadHeaders {
    first: OnceCell<Box<ReadHeader>>,
}

struct ReadHeader {
    name: String,
    values: Vec<Vec<u8>>,
    next: OnceCell<Box<ReadHeader>>,
}

impl ReadHeaders {
    pub(crate) fn values(&self, name: &str, read: impl FnOnce() -> Vec<Vec<u8>>) -> Values<'_> {
        let mut place = &self.first;
        while let Some(header) = place.get() {
            if header.name.eq_ignore_ascii_case(name) {
                return Values(Kind::Read(header.values.iter()));
            }
            place = &header.next;
        }
        let header = place.get_or_init(|| {
            Box::new(ReadHeader { name: name.to_owned(), values: read(), next: OnceCell::new() })
        });
        Values(Kind::Read(header.values.iter()))
    }
}

/// The values of one header, in order of reception.
#[derive(Clone)]
pub struct Values<'a>(Kind<'a>);

#[derive(Clone)]
enum Kind<'a> {
    Declared { index: usize, values: slice::Iter<'a, DeclaredHeader> },
    Read(slice::Iter<'a, Vec<u8>>),
}

impl<'a> Values<'a> {
    /// The value, if there is exactly one and it is UTF-8: for headers that must not be repeated.
    pub fn only(mut self) -> Option<&'a str> {
        let value = self.next()?;
        if self.next().is_some() { None } else { std::str::from_utf8(value).ok() }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.0 {
            Kind::Declared { index, values } => values
                .find(|header| usize::from(header.index) == *index)
                .map(|header| header.value.as_slice()),
            Kind::Read(values) => values.next().map(Vec::as_slice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(index: u16, value: &str) -> DeclaredHeader {
        DeclaredHeader { index, value: value.into() }
    }

    #[test]
    fn a_declared_header_is_found_by_its_position() {
        let names = ["accept".to_owned(), "cookie".to_owned()];
        let values = vec![declared(1, "a=1"), declared(0, "*/*"), declared(1, "b=2")];
        let headers = DeclaredHeaders { names: &names, values };
        let cookies: Vec<&[u8]> = headers.values("Cookie").expect("it is declared").collect();
        assert_eq!(cookies, [b"a=1", b"b=2"]);
        assert_eq!(headers.values("accept").expect("it is declared").only(), Some("*/*"));
        assert!(headers.values("host").is_none(), "not declared is not absent");
    }

    #[test]
    fn names_are_compared_whole_and_without_case() {
        let name = "x-a-name-of-some-length";
        for place in 0..name.len() {
            let mut other = name.to_owned();
            other.replace_range(place..=place, "!");
            assert!(!is_named(name, &other) && !is_named(&other, name), "{other}");
            assert!(!is_named(name, &name[..place]) && !is_named(&name[..place], name), "{place}");
        }
        assert!(is_named(name, name) && is_named(name, &name.to_ascii_uppercase()));
    }

    #[test]
    fn another_header_is_asked_for_once() {
        let read = ReadHeaders::default();
        let calls = std::cell::Cell::new(0);
        let ask = |value: &str| {
            calls.set(calls.get() + 1);
            vec![value.as_bytes().to_vec()]
        };
        assert_eq!(read.values("host", || ask("a")).only(), Some("a"));
        assert_eq!(read.values("via", || ask("b")).only(), Some("b"));
        assert_eq!(read.values("Host", || ask("c")).only(), Some("a"));
        assert_eq!(calls.get(), 2);
    }
}
