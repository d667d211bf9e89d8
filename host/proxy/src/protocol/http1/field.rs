//! What both sides of HTTP/1.1 know about a field line (RFC 9112 section 5).
//!
//! What is done to every field is never inlined: a request runs through three times the code that the processor's first
//! cache holds, most of it once, and what stands in ten places is fetched ten times.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH,
    CONTENT_TYPE, COOKIE, DATE, ETAG, HOST, InvalidHeaderName, LAST_MODIFIED, ORIGIN, REFERER, SERVER,
    SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether some bytes are a name, of which the letters are small: all of them at once, since its length is known.
pub(crate) fn is<const N: usize>(bytes: &[u8], name: &[u8; N]) -> bool {
    let case = |letter: u8| if letter.is_ascii_lowercase() { 0x20 } else { 0 };
    let pairs = bytes.iter().zip(name);
    bytes.len() == N && pairs.fold(0, |differs, (byte, of)| differs | (byte ^ of) & !case(*of)) == 0
}

/// The name that some bytes are. What most messages carry is told by its length and one comparison, which is much
/// less than to look at every byte.
///
/// # Errors
/// They are no token.
#[inline(never)]
pub(crate) fn name(bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
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

/// Whether a header of an answer is known to be the connection's own business (RFC 9110 section 7.6.1). HTTP/2 has no such
/// headers (RFC 9113 section 8.2.2).
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRANSFER_ENCODING | UPGRADE)
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// Adds a field.
#[inline(never)]
pub(crate) fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.append(name, value);
}

/// Sets a field in place of all that have its name.
#[inline(never)]
pub(crate) fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.insert(name, value);
}

/// Removes all such headers.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The name and the text of a field line.
///
/// # Errors
/// What is wrong with the name. The text is not looked at.
pub(crate) fn of(line: &[u8]) -> Result<(HeaderName, &[u8]), &'static str> {
    let colon = colon(line).ok_or("a header line has no colon")?;
    // A token: so there is no space before the colon and none at the begin of the line, where it would be folded.
    let name = name(&line[..colon]).map_err(|_| "a header name is malformed")?;
    Ok((name, trimmed(&line[colon + 1..])))
}

/// Where the name ends in a field line. Names are short, and a search through wider blocks would only be about to begin
/// where this one is over.
pub(crate) fn colon(line: &[u8]) -> Option<usize> {
    const COLONS: u64 = u64::from_le_bytes([b':'; 8]);
    const LOWEST: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_le_bytes([0x80; 8]);
    let (words, rest) = line.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ COLONS;
        // The lowest bit that is left is in the first byte that was zero; above it there may be others that were not.
        let zero = differs.wrapping_sub(LOWEST) & !differs & HIGHEST;
        if zero != 0 {
            return Some(8 * index + zero.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == b':').map(|at| 8 * words.len() + at)
}

/// A byte of a value (RFC 9110 section 5.5): no control byte but the tab.
pub(crate) fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7E | 0x80..)
}

/// Whether all of a text may be a value. Heads are mostly values, and byte by byte, with a way out behind each, this took
/// as long as all else that is done to them.
pub(crate) fn is_text(text: &[u8]) -> bool {
    let is_sound = |block: &[u8; 16]| block.iter().fold(true, |sound, byte| sound & is_value(*byte));
    let (blocks, rest) = text.as_chunks();
    blocks.iter().all(is_sound)
        && match (rest.first_chunk(), text.last_chunk()) {
            (Some(first), Some(last)) => are_values(*first) && are_values(*last),
            // Of what the blocks have left, or of that and some bytes before it.
            (None, Some(last)) => are_values(*last),
            (_, None) => {
                let mut padded = [b' '; 8];
                padded[..text.len()].copy_from_slice(text);
                are_values(padded)
            }
        }
}

/// Whether all characters are visible ASCII or spaces, which is stricter: no tab, and no byte above 126.
pub(crate) fn is_visible(text: &str) -> bool {
    text.is_ascii() && is_text(text.as_bytes()) && !text.contains('\t')
}

/// As [`is_value`], of eight bytes in one word: what is said of a byte stands in the highest bit of its place.
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

/// Bytes as a value, which stays where they are; none if they cannot be one.
#[inline(never)]
#[expect(
    unsafe_code,
    reason = "the type's own check looks at one byte after the other, for which see `is_text`"
)]
pub(crate) fn value(text: Bytes) -> Option<HeaderValue> {
    // SAFETY: the type wants what `is_text` has found: no byte below 32 but the tab, and no 127.
    is_text(&text).then(|| unsafe { HeaderValue::from_maybe_shared_unchecked(text) })
}

/// A value without the white space around it (RFC 9110 section 5.6.3: space and tab, nothing else).
pub(crate) fn trimmed(mut value: &[u8]) -> &[u8] {
    // As nearly all are written: one space before, none behind.
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

/// Writes a field line. A [`HeaderValue`] holds no byte that could end it.
pub(crate) fn write(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    write_text(out, name.as_str(), value.as_bytes());
}

/// Writes a field line of parts that are known to hold no byte which could end it.
#[inline(never)]
pub(crate) fn write_text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
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
            // What differs from a colon in the lowest or the highest bit only stands around it.
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
