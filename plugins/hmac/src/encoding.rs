//! How a signature is written.

use std::borrow::Cow;
use std::fmt::Write;

use witgate_sdk::settings;

/// How a signature is written.
#[settings]
#[derive(Clone, Copy, Default)]
pub(crate) enum Encoding {
    /// Hexadecimal digits of either case.
    #[default]
    Hex,
    /// Base64 with padding (RFC 4648 section 4).
    Base64,
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Encoding {
    /// The written form of some bytes, with lower-case hexadecimal digits.
    pub(crate) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Hex => bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
            Encoding::Base64 => bytes.chunks(3).flat_map(quantum).map(char::from).collect(),
        }
    }

    /// A received signature in the one form that [`Encoding::encode`] writes.
    pub(crate) fn unified(self, signature: &str) -> Cow<'_, str> {
        match self {
            Encoding::Hex => Cow::Owned(signature.to_ascii_lowercase()),
            Encoding::Base64 => Cow::Borrowed(signature),
        }
    }
}

/// The four letters of up to three bytes.
fn quantum(bytes: &[u8]) -> [u8; 4] {
    let byte = |index: usize| u32::from(bytes.get(index).copied().unwrap_or(0));
    let word = byte(0) << 16 | byte(1) << 8 | byte(2);
    let letter = |index: usize| {
        if index > bytes.len() { b'=' } else { BASE64[(word >> (18 - 6 * index) & 63) as usize] }
    };
    [letter(0), letter(1), letter(2), letter(3)]
}
