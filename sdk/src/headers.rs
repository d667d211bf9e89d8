//! Reading headers without copies: those declared came in with the call, others are read once and kept.

use std::cell::OnceCell;
use std::slice;

use crate::bindings::host::witgate::plugin::types::DeclaredHeader;

/// The headers that came in with a call, beside the names they were declared by.
#[derive(Default)]
pub(crate) struct DeclaredHeaders<'a> {
    pub(crate) names: &'a [String],
    pub(crate) values: Vec<DeclaredHeader>,
}

impl DeclaredHeaders<'_> {
    /// None if the name was not declared.
    pub(crate) fn values(&self, name: &str) -> Option<Values<'_>> {
        let index = self.names.iter().position(|declared| declared.eq_ignore_ascii_case(name))?;
        Some(Values(Kind::Declared { index, values: self.values.iter() }))
    }
}

/// Headers that were not declared, as they are read: a list that only grows, so that values may be lent out of it.
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
