//! Reading and writing field lines (RFC 9112 section 5), shared by the client and the upstream side.
//!
//! What runs for every field is `#[inline(never)]`: copies of it at each call would crowd other code out of the
//! processor's instruction cache.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH,
    CONTENT_TYPE, COOKIE, DATE, ETAG, HOST, InvalidHeaderName, LAST_MODIFIED, ORIGIN, REFERER, SERVER,
    SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether `bytes` are `name`, ignoring case. `name` must be in lower case. All bytes are compared without an
/// early exit, since the length is known.
pub fn is<const N: usize>(bytes: &[u8], name: &[u8; N]) -> bool {
    let case = |letter: u8| if letter.is_ascii_lowercase() { 0x20 } else { 0 };
    let pairs = bytes.iter().zip(name);
    bytes.len() == N && pairs.fold(0, |differs, (byte, of)| differs | (byte ^ of) & !case(*of)) == 0
}

/// The header name that `bytes` are. The usual names are recognised by their length and one comparison, which is
/// cheaper than checking every byte.
///
/// # Errors
/// `bytes` are not a token.
#[inline(never)]
pub fn name(bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    Ok(match bytes.len() {
        4 if is(bytes, b"host") => HOST,
        4 if is(bytes, b"date") => DATE,
        4 if is(bytes, b"vary") => VARY,
        4 if is(bytes, b"etag") => ETAG,
        6 if is(bytes, b"accept") => ACCEPT,
        6 if is(bytes, b"server") => SERVER,
        6 if is(bytes, b"cookie") => COOKIE,
        6 if is(bytes, b"origin") => ORIGIN,
        7 if is(bytes, b"referer") => REFERER,
        10 if is(bytes, b"user-agent") => USER_AGENT,
        10 if is(bytes, b"connection") => CONNECTION,
        10 if is(bytes, b"set-cookie") => SET_COOKIE,
        12 if is(bytes, b"content-type") => CONTENT_TYPE,
        13 if is(bytes, b"authorization") => AUTHORIZATION,
        13 if is(bytes, b"cache-control") => CACHE_CONTROL,
        13 if is(bytes, b"last-modified") => LAST_MODIFIED,
        14 if is(bytes, b"content-length") => CONTENT_LENGTH,
        15 if is(bytes, b"accept-encoding") => ACCEPT_ENCODING,
        15 if is(bytes, b"accept-language") => ACCEPT_LANGUAGE,
        17 if is(bytes, b"transfer-encoding") => TRANSFER_ENCODING,
        _ => HeaderName::from_bytes(bytes)?,
    })
}

/// Whether two header names in lower case are the same to upstreams that read underscores as dashes, as those do that have
/// environment variables for headers (RFC 3875 section 4.1.18).
pub fn is_same_name(one: &str, other: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).all(|(one, other)| dashed(one) == dashed(other))
}

/// Whether a response field always belongs to one connection only (RFC 9110 section 7.6.1). HTTP/2 forbids these
/// fields (RFC 9113 section 8.2.2).
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRANSFER_ENCODING | UPGRADE)
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// Appends a field.
#[inline(never)]
pub fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.append(name, value);
}

/// Sets a field and removes all others of the same name.
#[inline(never)]
pub fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.insert(name, value);
}

/// Removes all hop-by-hop fields.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The name and the value of a field line; the value is trimmed.
///
/// # Errors
/// What is wrong with the name. The value is not checked.
pub fn of(line: &[u8]) -> Result<(HeaderName, &[u8]), &'static str> {
    let colon = colon(line).ok_or("a header line has no colon")?;
    // The name must be a token, so there is no space before the colon and no folded line (RFC 9112 sections 5.1
    // and 5.2).
    let name = name(&line[..colon]).map_err(|_| "a header name is malformed")?;
    Ok((name, trimmed(&line[colon + 1..])))
}

/// The position of the first colon. Searches 8 bytes at a time: names are so short that wider blocks would not
/// pay.
pub fn colon(line: &[u8]) -> Option<usize> {
    const COLONS: u64 = u64::from_le_bytes([b':'; 8]);
    const LOWEST: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_le_bytes([0x80; 8]);
    let (words, rest) = line.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ COLONS;
        // The lowest marked byte is the first colon; bytes above it may be marked wrongly by the borrow of the
        // subtraction.
        let zero = differs.wrapping_sub(LOWEST) & !differs & HIGHEST;
        if zero != 0 {
            return Some(8 * index + zero.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == b':').map(|at| 8 * words.len() + at)
}

/// Whether a byte may be part of a field value (RFC 9110 section 5.5): any but control characters, of which only
/// the tab is allowed.
pub fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7E | 0x80..)
}

/// Whether all bytes may be part of a field value. Checks blocks instead of single bytes, because most bytes of a
/// head are values.
pub fn is_text(text: &[u8]) -> bool {
    let is_sound = |block: &[u8; 16]| block.iter().fold(true, |sound, byte| sound & is_value(*byte));
    let (blocks, rest) = text.as_chunks();
    blocks.iter().all(is_sound)
        && match (rest.first_chunk(), text.last_chunk()) {
            (Some(first), Some(last)) => are_values(*first) && are_values(*last),
            // Fewer than 8 bytes follow the blocks: the last 8 bytes of the text include them.
            (None, Some(last)) => are_values(*last),
            (_, None) => {
                let mut padded = [b' '; 8];
                padded[..text.len()].copy_from_slice(text);
                are_values(padded)
            }
        }
}

/// Whether all characters are visible ASCII or spaces. Stricter than [`is_text`]: no tab, and no byte above 126.
pub fn is_visible(text: &str) -> bool {
    text.is_ascii() && is_text(text.as_bytes()) && !text.contains('\t')
}

/// As [`is_value`], for 8 bytes in one word: the highest bit of each byte holds its result.
fn are_values(bytes: [u8; 8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let word = u64::from_ne_bytes(bytes);
    let low = word & each(0x7F);
    let is_printable = low + each(0x80 - 0x20);
    let is_delete = low + each(0x80 - 0x7F);
    let tab = word ^ each(b'\t');
    let is_no_tab = ((tab & each(0x7F)) + each(0x7F)) | tab;
    let is_control = (!is_printable & is_no_tab) | is_delete;
    !word & is_control & each(0x80) == 0
}

/// `bytes` as a field value, without a copy; `None` if a byte is not allowed in a value.
#[inline(never)]
#[expect(unsafe_code, reason = "the type's own check is byte by byte; `is_text` checks the same in blocks")]
pub fn value(text: Bytes) -> Option<HeaderValue> {
    // SAFETY: the type requires what `is_text` has checked: no byte below 32 but the tab, and no 127.
    is_text(&text).then(|| unsafe { HeaderValue::from_maybe_shared_unchecked(text) })
}

/// A value without surrounding white space (RFC 9110 section 5.6.3: space and tab only).
pub fn trimmed(mut value: &[u8]) -> &[u8] {
    // Fast path: the common case is exactly one space before the value and none behind it.
    if let [b' ', rest @ ..] = value
        && let [b'!'..=u8::MAX, .., b'!'..=u8::MAX] = rest
    {
        return rest;
    }
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Writes a field line. A [`HeaderValue`] contains no CR or LF, so the line cannot end early.
pub fn write(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    write_text(out, name.as_str(), value.as_bytes());
}

/// Writes a field line from parts that are known to contain no CR or LF.
#[inline(never)]
pub fn write_text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_they_say() {
        let usual = [
            "host",
            "date",
            "vary",
            "etag",
            "accept",
            "server",
            "cookie",
            "origin",
            "referer",
            "user-agent",
            "connection",
            "set-cookie",
            "content-type",
            "authorization",
            "cache-control",
            "last-modified",
            "content-length",
            "accept-encoding",
            "accept-language",
            "transfer-encoding",
            "hosts",
            "x-a",
        ];
        for text in usual {
            assert_eq!(name(text.as_bytes()).expect("a token").as_str(), text);
            assert_eq!(name(text.to_uppercase().as_bytes()).expect("a token").as_str(), text);
        }
        for text in ["", "host ", "h\u{e4}st", "da:e"] {
            assert!(name(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn no_value_can_hold_a_byte_that_ends_its_line() {
        for byte in 0..=u8::MAX {
            let value = HeaderValue::from_bytes(&[b'a', byte, b'a']);
            assert_eq!(value.is_ok(), byte == b'\t' || byte >= b' ' && byte != 0x7F, "{byte}");
        }
    }

    #[test]
    fn a_text_is_a_value_where_the_type_would_have_it() {
        for length in 0..50 {
            let mut text = vec![b'a'; length];
            assert!(is_text(&text), "{length}");
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    text[at] = byte;
                    let expected = HeaderValue::from_bytes(&text).ok();
                    assert_eq!(value(Bytes::copy_from_slice(&text)), expected, "{byte} at {at} of {length}");
                }
                text[at] = b'a';
            }
        }
    }

    #[test]
    fn visible_are_ascii_and_spaces() {
        for character in '\0'..='\u{100}' {
            let text = format!("an id {character} of 32 characters");
            assert_eq!(is_visible(&text), matches!(character, ' '..='~'), "{character:?}");
        }
        assert!(is_visible(""));
    }

    #[test]
    fn the_first_colon_is_found_wherever_it_is() {
        for length in 0..30 {
            // These bytes differ from a colon in the lowest or in the highest bit, or are the extreme values.
            for beside in [b'a', b';', b':' ^ 0x80, 0, 0xFF] {
                let mut line = vec![beside; length];
                assert_eq!(colon(&line), None);
                for at in (0..length).rev() {
                    line[at] = b':';
                    assert_eq!(colon(&line), Some(at), "{at} of {length} beside {beside}");
                }
            }
        }
    }

    #[test]
    fn only_blanks_are_white_space() {
        for value in [&b"a b"[..], b" a b", b" a b ", b" \t a b\t ", b"  a b", b" a b\t"] {
            assert_eq!(trimmed(value), b"a b");
        }
        assert_eq!(trimmed(b" a"), b"a");
        assert_eq!(trimmed(b" \t "), b"");
        assert_eq!(trimmed(b"\x0ba\r"), b"\x0ba\r");
    }
}
