//! Paths of fields.

use std::borrow::Cow;

/// A JSON Pointer (RFC 6901) with `*` for any member or element and `**` for any depth.
#[derive(Debug, PartialEq)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Debug, PartialEq)]
enum Segment {
    Name(String),
    Any,
    AnyDepth,
}

/// A step of the path to a value.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Member(Cow<'a, str>),
    Element(usize),
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(names) = text.strip_prefix('/') else {
            return Err(format!(
                "`{text}` is not a path: write e.g. `/password`, `/users/*/email`, `/**/token`"
            ));
        };
        let segments: Vec<Segment> = names
            .split('/')
            .map(|name| match name {
                "*" => Segment::Any,
                "**" => Segment::AnyDepth,
                name => Segment::Name(name.replace("~1", "/").replace("~0", "~")),
            })
            .collect();
        match segments.last() {
            Some(Segment::AnyDepth) => Err("`**` must be followed by a name".to_owned()),
            _ => Ok(Self { segments }),
        }
    }

    /// Whether the pattern matches the path that these steps form.
    pub(crate) fn matches(&self, steps: &[Step]) -> bool {
        matches(&self.segments, steps)
    }
}

fn matches(segments: &[Segment], steps: &[Step]) -> bool {
    match (segments.split_first(), steps.split_first()) {
        (None, None) => true,
        (Some((Segment::AnyDepth, rest)), _) => {
            (0..=steps.len()).any(|skipped| matches(rest, &steps[skipped..]))
        }
        (Some((Segment::Any, rest)), Some((_, steps))) => matches(rest, steps),
        (Some((Segment::Name(name), rest)), Some((step, steps))) => step.is(name) && matches(rest, steps),
        _ => false,
    }
}

impl Step<'_> {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Member(own) => own == name,
            Self::Element(index) => name.parse() == Ok(*index),
        }
    }
}
