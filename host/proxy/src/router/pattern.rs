//! Parses path conditions into segments.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use witgate_config::model::PathMatch;

/// A parsed path condition: segments from the left, and what may follow them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// The segments, without the tail.
    pub(super) segments: Vec<Segment>,
    /// What may follow the segments.
    pub(super) end: End,
}

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Exactly this text, percent-decoded.
    Literal(Box<str>),
    /// Any text of at least one character, captured under this name.
    Parameter(Arc<str>),
}

/// What may follow the segments of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Exact,
    /// A slash and any text, captured under this name.
    Tail(Arc<str>),
    /// Nothing, or a slash and any text.
    Prefix,
}

impl Pattern {
    /// Parses a path condition.
    ///
    /// # Errors
    /// What is wrong with it, as a message and a hint.
    pub(crate) fn parse(path: Option<&PathMatch>) -> Result<Pattern, (String, String)> {
        match path {
            None => Ok(Pattern { segments: Vec::new(), end: End::Prefix }),
            Some(PathMatch::Prefix(prefix)) => Pattern::prefix(prefix),
            Some(PathMatch::Pattern(pattern)) => Pattern::segments(pattern),
        }
    }

    /// Parses a prefix. A slash at its end is ignored, because a prefix always ends at a segment boundary.
    fn prefix(prefix: &str) -> Result<Pattern, (String, String)> {
        let inner = after_slash(prefix)?.trim_end_matches('/');
        if inner.contains(['{', '}']) {
            return Err((
                format!("the prefix `{prefix}` has a parameter"),
                "write it as a pattern with a wildcard tail: `/users/{id}/{*rest}`".into(),
            ));
        }
        let segments = match inner {
            "" => Vec::new(),
            inner => inner.split('/').map(literal).collect(),
        };
        Ok(Pattern { segments, end: End::Prefix })
    }

    /// Parses a pattern that must match a whole path.
    fn segments(pattern: &str) -> Result<Pattern, (String, String)> {
        let mut segments = Vec::new();
        let mut end = End::Exact;
        for part in after_slash(pattern)?.split('/') {
            if end != End::Exact {
                return Err((
                    format!("the wildcard tail of `{pattern}` is not at its end"),
                    "`{*rest}` takes everything that follows, so it must be the last segment".into(),
                ));
            }
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(name) => match name.strip_prefix('*') {
                    Some(name) => end = End::Tail(parameter_name(pattern, name)?),
                    None => segments.push(Segment::Parameter(parameter_name(pattern, name)?)),
                },
                None if part.contains(['{', '}']) => {
                    return Err((
                        format!("`{part}` in `{pattern}` is neither a plain segment nor a parameter"),
                        "a parameter is a whole segment: `/users/{id}`".into(),
                    ));
                }
                None => segments.push(literal(part)),
            }
        }
        let parsed = Pattern { segments, end };
        parsed.names_are_unique(pattern)?;
        Ok(parsed)
    }

    fn names_are_unique(&self, pattern: &str) -> Result<(), (String, String)> {
        let names = self.parameters();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err((
                    format!("`{pattern}` has two parameters called `{name}`"),
                    "give each parameter a name of its own".into(),
                ));
            }
        }
        Ok(())
    }

    /// The names of the parameters, from the left.
    pub(crate) fn parameters(&self) -> Vec<Arc<str>> {
        let tail = match &self.end {
            End::Tail(name) => Some(name.clone()),
            End::Exact | End::Prefix => None,
        };
        let segments = self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.clone()),
            Segment::Literal(_) => None,
        });
        segments.chain(tail).collect()
    }

    /// The position of a parameter: the index of its segment, and whether it is the tail.
    pub(crate) fn place_of(&self, name: &str) -> Option<(usize, bool)> {
        let among_segments = self.segments.iter().position(
            |segment| matches!(segment, Segment::Parameter(parameter) if parameter.as_ref() == name),
        );
        match (&self.end, among_segments) {
            (_, Some(index)) => Some((index, false)),
            (End::Tail(tail), None) if tail.as_ref() == name => Some((self.segments.len(), true)),
            _ => None,
        }
    }
}

/// Percent-decodes a segment of a path; borrows where nothing is encoded.
///
/// Segments are split before they are decoded, so an encoded slash never becomes a boundary.
pub(crate) fn decode(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') {
        percent_decode_str(segment).decode_utf8_lossy()
    } else {
        Cow::Borrowed(segment)
    }
}

fn literal(segment: &str) -> Segment {
    Segment::Literal(decode(segment).into_owned().into())
}

fn after_slash(path: &str) -> Result<&str, (String, String)> {
    path.strip_prefix('/')
        .ok_or_else(|| (format!("the path `{path}` does not begin with a slash"), format!("write `/{path}`")))
}

fn parameter_name(pattern: &str, name: &str) -> Result<Arc<str>, (String, String)> {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    if name.is_empty() || !name.chars().all(word) {
        return Err((
            format!("`{name}` in `{pattern}` cannot be the name of a parameter"),
            "names are made of letters, digits, `_` and `-`".into(),
        ));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Pattern, (String, String)> {
        Pattern::parse(Some(&PathMatch::Pattern(text.into())))
    }

    #[test]
    fn a_pattern_is_taken_apart() {
        let parsed = pattern("/users/{id}/files/{*rest}").unwrap();
        assert_eq!(parsed.parameters(), [Arc::from("id"), Arc::from("rest")]);
        assert_eq!(parsed.place_of("id"), Some((1, false)));
        assert_eq!(parsed.place_of("rest"), Some((3, true)));
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused() {
        for wrong in ["users", "/a/{*rest}/b", "/a{b}", "/{}", "/{a}/{a}", "/{a b}"] {
            assert!(pattern(wrong).is_err(), "{wrong} was accepted");
        }
        assert!(Pattern::parse(Some(&PathMatch::Prefix("/a/{b}".into()))).is_err());
    }
}
