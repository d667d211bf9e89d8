//! Hexadecimal digits and base64 (RFC 4648), for signatures, keys and credentials.
//!
//! ```
//! use witgate_sdk::encoding;
//!
//! assert_eq!(encoding::hex(b"\x00\xff"), "00ff");
//! assert_eq!(encoding::from_hex("00FF").as_deref(), Some(&b"\x00\xff"[..]));
//! assert_eq!(encoding::base64("fo"), "Zm8=");
//! assert_eq!(encoding::base64_url(b"\xfb\xff"), "-_8");
//! assert_eq!(encoding::from_base64("Zm8=").as_deref(), Some(&b"fo"[..]));
//! assert_eq!(encoding::from_base64_url("-_8").as_deref(), Some(&b"\xfb\xff"[..]));
//! ```

/// The alphabet of RFC 4648 section 4.
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The alphabet of RFC 4648 section 5, for URLs and file names.
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |index: u8| char::from(DIGITS[usize::from(index)]);
    bytes.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of hexadecimal digits of either case; `None` if there is any other letter, or an odd number of digits.
#[must_use]
pub fn from_hex(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_ref().as_chunks::<2>() else { return None };
    let digit = |letter: u8| char::from(letter).to_digit(16);
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()).collect()
}

/// Base64 with padding (RFC 4648 section 4).
#[must_use]
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    encoded(bytes.as_ref(), STANDARD, true)
}

/// Base64 with the alphabet for URLs, without padding (RFC 4648 section 5), as in JSON Web Tokens.
#[must_use]
pub fn base64_url(bytes: impl AsRef<[u8]>) -> String {
    encoded(bytes.as_ref(), URL, false)
}

/// The bytes of base64 with padding; `None` if it is malformed. Unused bits must be zero, so that each sequence of bytes has
/// one form only.
#[must_use]
pub fn from_base64(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let text = text.as_ref();
    let letters = match text {
        _ if !text.len().is_multiple_of(4) => return None,
        [letters @ .., b'=', b'='] | [letters @ .., b'='] => letters,
        letters => letters,
    };
    decoded(letters, STANDARD)
}

/// The bytes of base64 with the alphabet for URLs, without padding; `None` if it is malformed.
#[must_use]
pub fn from_base64_url(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    decoded(text.as_ref(), URL)
}

fn encoded(bytes: &[u8], alphabet: &[u8; 64], padded: bool) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..=group.len() {
            text.push(char::from(alphabet[(word >> (18 - 6 * index) & 63) as usize]));
        }
        if padded {
            (group.len()..3).for_each(|_| text.push('='));
        }
    }
    text
}

fn decoded(letters: &[u8], alphabet: &[u8; 64]) -> Option<Vec<u8>> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(u32::from(letter - b'A')),
        b'a'..=b'z' => Some(u32::from(letter - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(letter - b'0') + 52),
        _ if letter == alphabet[62] => Some(62),
        _ if letter == alphabet[63] => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for group in letters.chunks(4) {
        let mut word = 0;
        for letter in group {
            word = word << 6 | value(*letter)?;
        }
        word <<= 6 * (4 - group.len());
        let known = group.len() - 1;
        let [_, whole @ ..] = word.to_be_bytes();
        // A single letter makes no byte, and bits that make none must be zero.
        if known == 0 || whole[known..].iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(&whole[..known]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc_hold_both_ways() {
        // RFC 4648 section 10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
            let bare = text.trim_end_matches('=');
            assert_eq!(base64_url(bytes), bare);
            assert_eq!(from_base64_url(bare).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(
            (hex("foobar").as_str(), from_hex("666F6f626172").as_deref()),
            ("666f6f626172", Some(&b"foobar"[..]))
        );
    }

    #[test]
    fn every_length_and_every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for length in 0..all.len() {
            let bytes = &all[all.len() - length..];
            assert_eq!(from_base64(base64(bytes)).as_deref(), Some(bytes));
            assert_eq!(from_base64_url(base64_url(bytes)).as_deref(), Some(bytes));
            assert_eq!(from_hex(hex(bytes)).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn what_is_malformed_or_has_a_second_form_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "=", "====", "Zg==Zg==", "Z g=", "Zm8_", "Zm8-",
            "Zm8é",
        ] {
            assert_eq!(from_base64(text), None, "{text}");
        }
        for text in ["Z", "Zh", "Zg==", "Zm8/", "Zm8+", "Zm9vY"] {
            assert_eq!(from_base64_url(text), None, "{text}");
        }
        for text in ["0", "0g", "000", "0x00", "+1", " 1"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
