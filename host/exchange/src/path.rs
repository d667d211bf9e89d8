//! Normalises paths.
//!
//! A router, a plugin and an origin that read the same path differently allow guards to be bypassed. Therefore a
//! path is converted to one normal form here, or refused:
//!
//! - percent-encoding: two hexadecimal digits or refused; unreserved characters decoded, digits in upper case (RFC
//!   3986 section 6.2.2); `%00` refused; characters that a path may not contain (RFC 3986 section 3.3) encoded;
//! - slashes: runs of slashes become one, unless the route distinguishes empty segments ([`normalise_apart`]);
//! - dot segments (`.`, `..`, also encoded or with `;parameters`) are removed; a path that leads above the root is
//!   refused;
//! - `%2F`, `%5C` and the backslash: refused, or kept encoded as an ordinary character, by
//!   `gateway.encoded_slashes`.
//!
//! The query is kept as it is, except that bytes above 127, quotes and angle brackets are encoded.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use witgate_config::model::EncodedSlashes;

use crate::fault::{Fault, FaultKind};

/// Normalises a path with an optional query. Idempotent.
///
/// # Errors
/// `BadPath`, with the broken rule as detail.
pub fn normalise(target: &str, slashes: EncodedSlashes) -> Result<PathAndQuery, Fault> {
    normal_form(target, slashes, true)
}

/// Normalises like [`normalise`], but keeps empty segments: `/a//b` stays as it is. A `..` removes the last segment
/// that is not empty, and the empty ones after it, so that the result with its slashes merged is always what
/// [`normalise`] returns: the path by which a route was chosen is the path that its upstream gets.
///
/// # Errors
/// As [`normalise`].
pub fn normalise_apart(target: &str, slashes: EncodedSlashes) -> Result<PathAndQuery, Fault> {
    normal_form(target, slashes, false)
}

fn normal_form(target: &str, slashes: EncodedSlashes, merge: bool) -> Result<PathAndQuery, Fault> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !path.starts_with('/') {
        return Err(bad("the path does not begin with a slash"));
    }
    let mut normal = String::with_capacity(target.len() + 8);
    push_path(&mut normal, path, slashes, merge)?;
    if let Some(query) = query {
        normal.push('?');
        push_query(&mut normal, query)?;
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(normal))
        .map_err(|_| bad("the path has forbidden characters"))
}

/// A path in the form of [`normalise_apart`] with its slashes merged: the path that [`normalise`] returns.
pub fn merged(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    Cow::Owned(merged)
}

/// Whether a target is already normalised, which is the common case. A cheap check that may return `false` for a
/// normalised target.
pub fn is_normal(target: &str) -> bool {
    let target = target.as_bytes();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    path.first() == Some(&b'/')
        && target.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>'))
        && path.iter().all(|byte| is_plain(*byte))
        && !path.windows(2).any(|pair| pair[0] == b'/' && matches!(pair[1], b'/' | b'.'))
}

fn push_path(normal: &mut String, path: &str, slashes: EncodedSlashes, merge: bool) -> Result<(), Fault> {
    let mut segments: Vec<String> = Vec::new();
    let mut directory = true;
    for raw in path.split('/').skip(1) {
        let segment = decode_segment(raw, slashes)?;
        directory = true;
        match dots(&segment) {
            Dots::None if segment.is_empty() && merge => {}
            Dots::None if hides_dots(&segment) => {
                return Err(bad("a dot segment hides behind an encoded slash"));
            }
            Dots::None => {
                segments.push(segment);
                directory = false;
            }
            Dots::Here => {}
            Dots::Up => {
                let last = segments.iter().rposition(|segment| !segment.is_empty());
                segments.truncate(last.ok_or_else(|| bad("the path leads above the root"))?);
            }
        }
    }
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if directory {
        normal.push('/');
    }
    Ok(())
}

/// Decodes what may be decoded in one segment, and encodes what must be encoded.
fn decode_segment(raw: &str, slashes: EncodedSlashes) -> Result<String, Fault> {
    let mut segment = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let value = hex(bytes.next()).zip(hex(bytes.next())).map(|(high, low)| high << 4 | low);
                let value =
                    value.ok_or_else(|| bad("percent-encoding is not followed by two hexadecimal digits"))?;
                push_decoded(&mut segment, value, slashes)?;
            }
            b'\\' => push_slash(&mut segment, b'\\', slashes)?,
            b'#' | 0..=b' ' | 0x7F => return Err(bad("the path has forbidden characters")),
            _ if is_plain(byte) => segment.push(char::from(byte)),
            _ => push_encoded(&mut segment, byte),
        }
    }
    Ok(segment)
}

/// A character that a segment may contain unencoded (RFC 3986 section 3.3), or the slash between segments.
fn is_plain(byte: u8) -> bool {
    const OTHERS: u128 = {
        let (others, mut set, mut at) = (b"-._~!$&'()*+,;=:@/", 0, 0);
        while at < others.len() {
            set |= 1 << others[at];
            at += 1;
        }
        set
    };
    byte.is_ascii_alphanumeric() || byte.is_ascii() && OTHERS >> byte & 1 == 1
}

fn push_decoded(segment: &mut String, value: u8, slashes: EncodedSlashes) -> Result<(), Fault> {
    match value {
        0 => return Err(bad("the path has an encoded zero byte")),
        b'/' | b'\\' => push_slash(segment, value, slashes)?,
        b'-' | b'.' | b'_' | b'~' => segment.push(char::from(value)),
        _ if value.is_ascii_alphanumeric() => segment.push(char::from(value)),
        _ => push_encoded(segment, value),
    }
    Ok(())
}

fn push_slash(segment: &mut String, value: u8, slashes: EncodedSlashes) -> Result<(), Fault> {
    match slashes {
        EncodedSlashes::Refuse => Err(bad("the path has an encoded slash or a backslash")),
        EncodedSlashes::Opaque => {
            push_encoded(segment, value);
            Ok(())
        }
    }
}

fn push_encoded(text: &mut String, value: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(value >> 4)]));
    text.push(char::from(DIGITS[usize::from(value & 15)]));
}

fn push_query(normal: &mut String, query: &str) -> Result<(), Fault> {
    for byte in query.bytes() {
        match byte {
            b'#' | 0..=b' ' | 0x7F => return Err(bad("the query has forbidden characters")),
            b'"' | b'<' | b'>' | 0x80.. => push_encoded(normal, byte),
            _ => normal.push(char::from(byte)),
        }
    }
    Ok(())
}

enum Dots {
    None,
    Here,
    Up,
}

/// Whether a decoded segment is a dot segment. `;parameters` are ignored, because some servers remove them first.
fn dots(segment: &str) -> Dots {
    match segment.split(';').next() {
        Some(".") => Dots::Here,
        Some("..") => Dots::Up,
        _ => Dots::None,
    }
}

/// Whether an origin that decodes slashes would find a dot segment in this one.
fn hides_dots(segment: &str) -> bool {
    (segment.contains("%2F") || segment.contains("%5C"))
        && segment.replace("%5C", "%2F").split("%2F").any(|part| !matches!(dots(part), Dots::None))
}

fn hex(digit: Option<u8>) -> Option<u8> {
    char::from(digit?).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn bad(detail: &'static str) -> Fault {
    Fault::new(FaultKind::BadPath).detail(detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(target: &str, slashes: EncodedSlashes) -> Option<String> {
        normalise(target, slashes).ok().map(|target| target.as_str().to_owned())
    }

    #[test]
    fn every_spelling_becomes_one_or_is_refused() {
        let cases = [
            ("/", Some("/")),
            ("/a/b?c=%2f&d=/../e", Some("/a/b?c=%2f&d=/../e")),
            ("/%61%2D%7e%5F", Some("/a-~_")),
            ("/%c3%a4", Some("/%C3%A4")),
            ("/\u{e4}?\u{e4}", Some("/%C3%A4?%C3%A4")),
            ("/a//b///c", Some("/a/b/c")),
            ("//a", Some("/a")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/b/.", Some("/a/b/")),
            ("/a/..;x=1/b", Some("/b")),
            ("/a/.b/..c/...", Some("/a/.b/..c/...")),
            ("/a%3Fb", Some("/a%3Fb")),
            ("/{a}|<b>?{a}|<b>", Some("/%7Ba%7D%7C%3Cb%3E?{a}|%3Cb%3E")),
            ("/a%25%32%66", Some("/a%252f")),
            ("/..", None),
            ("/a/../../b", None),
            ("/%00", None),
            ("/%", None),
            ("/%4", None),
            ("/%g1", None),
            ("/a%2fb", None),
            ("/a%5Cb", None),
            ("/a\\b", None),
            ("/a b", None),
            ("/a#b", None),
            ("a", None),
            ("", None),
        ];
        for (target, expected) in cases {
            assert_eq!(normal(target, EncodedSlashes::Refuse).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn empty_segments_are_kept_apart() {
        let cases = [
            ("/a//b///c", Some("/a//b///c")),
            ("//a", Some("//a")),
            ("/a//", Some("/a//")),
            ("/", Some("/")),
            ("//", Some("//")),
            ("/a/", Some("/a/")),
            ("/a//./b", Some("/a//b")),
            ("/a//.", Some("/a//")),
            ("/secret//../public/x", Some("/public/x")),
            ("/a//b//../c?d=//e", Some("/a//c?d=//e")),
            ("/a/..", Some("/")),
            ("//..", None),
            ("/a//../..", None),
        ];
        for (target, expected) in cases {
            let apart = normalise_apart(target, EncodedSlashes::Refuse).ok();
            assert_eq!(apart.as_ref().map(PathAndQuery::as_str), expected, "{target}");
        }
    }

    #[test]
    fn opaque_slashes_stay_encoded_and_hide_nothing() {
        assert_eq!(normal("/a%2fb\\c", EncodedSlashes::Opaque).as_deref(), Some("/a%2Fb%5Cc"));
        assert_eq!(normal("/a/..%2fb", EncodedSlashes::Opaque), None);
        assert_eq!(normal("/a%5c%2e%2e", EncodedSlashes::Opaque), None);
    }

    proptest! {
        #[test]
        fn twice_is_once(target in "/[a-c./;%2eE5Cf\\\\ä?]{0,24}", opaque: bool) {
            let slashes = if opaque { EncodedSlashes::Opaque } else { EncodedSlashes::Refuse };
            if let Some(once) = normal(&target, slashes) {
                prop_assert_eq!(normal(&once, slashes), Some(once.clone()));
                let path = once.split('?').next().unwrap_or_default();
                prop_assert!(path.starts_with('/'));
                prop_assert!(!path.contains("//") && !path.contains('\\'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }

        #[test]
        fn what_is_kept_apart_merges_to_the_normal_form(target in "/[ab./]{0,16}") {
            let slashes = EncodedSlashes::Refuse;
            let apart = normalise_apart(&target, slashes).ok();
            prop_assert_eq!(apart.is_some(), normal(&target, slashes).is_some());
            if let Some(apart) = apart {
                prop_assert_eq!(normal(apart.as_str(), slashes), normal(&target, slashes));
                prop_assert_eq!(Some(merged(apart.path()).into_owned()), normal(&target, slashes));
                prop_assert_eq!(normalise_apart(apart.as_str(), slashes).ok(), Some(apart));
            }
        }

        #[test]
        fn the_quick_look_never_skips_work(target in "/[ -~ä]{0,24}") {
            if is_normal(&target) {
                prop_assert_eq!(normal(&target, EncodedSlashes::Refuse), Some(target.clone()));
            }
        }
    }
}
