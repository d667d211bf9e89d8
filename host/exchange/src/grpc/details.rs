//! The details of a status: `google.rpc.Status` in Protocol Buffers, which gRPC sends as `grpc-status-details-bin`.
//!
//! Only the few fields that the gateway writes itself and reads of upstreams are known here. What comes from an upstream
//! is checked: a malformed message has no details.

use std::time::Duration;

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD, STANDARD_NO_PAD};
use base64::{alphabet, engine::DecodePaddingMode};
use http::HeaderValue;

use super::Code;

/// Base64 as gRPC has it: written without padding, read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
/// The same with the alphabet for URLs.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The type of the detail that says when a call may be made again.
pub const RETRY_INFO: &str = "google.rpc.RetryInfo";
/// What stands before the name of a type in `google.protobuf.Any`.
pub const TYPE_PREFIX: &str = "type.googleapis.com/";
/// The most details of a status that are read.
const MOST: usize = 64;

/// A detail: the name of its type without prefix, and the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// E.g. `google.rpc.RetryInfo`.
    pub kind: String,
    /// The encoded message.
    pub value: Vec<u8>,
}

impl Detail {
    /// A `google.rpc.RetryInfo` with this delay.
    pub fn retry_after(delay: Duration) -> Self {
        let mut duration = Vec::new();
        put_number(&mut duration, 1, delay.as_secs());
        put_number(&mut duration, 2, delay.subsec_nanos().into());
        let mut value = Vec::new();
        put_bytes(&mut value, 1, &duration);
        Detail { kind: RETRY_INFO.to_owned(), value }
    }

    /// The message in base64.
    pub fn encoded(&self) -> String {
        STANDARD_NO_PAD.encode(&self.value)
    }
}

/// The value of `grpc-status-details-bin`.
pub fn encode(code: Code, message: &str, details: &[Detail]) -> HeaderValue {
    let mut status = Vec::new();
    put_number(&mut status, 1, code.number().into());
    put_bytes(&mut status, 2, message.as_bytes());
    for detail in details {
        let mut any = Vec::new();
        put_bytes(&mut any, 1, format!("{TYPE_PREFIX}{}", detail.kind).as_bytes());
        put_bytes(&mut any, 2, &detail.value);
        put_bytes(&mut status, 3, &any);
    }
    HeaderValue::from_str(&STANDARD_NO_PAD.encode(status)).expect("base64 is visible ASCII")
}

/// Bytes in base64 with padding, which gRPC-Web has in its form for text.
pub fn encode_padded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a text in the base64 for URLs, with or without padding; `None` if it is none.
pub fn decode_binary_url(value: &[u8]) -> Option<Vec<u8>> {
    BASE64_URL.decode(value).ok()
}

/// The bytes of a value of metadata whose name ends in `-bin`; `None` if it is not base64.
pub fn decode_binary(value: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(value).ok()
}

/// The details in a value of `grpc-status-details-bin`; none if it is malformed.
pub fn decode(value: &HeaderValue) -> Vec<Detail> {
    let status = BASE64.decode(value.as_bytes()).unwrap_or_default();
    details(&status).unwrap_or_default()
}

fn details(status: &[u8]) -> Option<Vec<Detail>> {
    let mut found = Vec::new();
    for field in fields(status)? {
        if let (3, Field::Bytes(any)) = field
            && found.len() < MOST
        {
            let (mut kind, mut value) = (String::new(), Vec::new());
            for field in fields(any)? {
                match field {
                    (1, Field::Bytes(text)) => kind = std::str::from_utf8(text).ok()?.to_owned(),
                    (2, Field::Bytes(bytes)) => value = bytes.to_vec(),
                    _ => {}
                }
            }
            let name = kind.rsplit('/').next().unwrap_or_default().to_owned();
            found.push(Detail { kind: name, value });
        }
    }
    Some(found)
}

/// A field of a message.
enum Field<'a> {
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message with their numbers; `None` if it is malformed.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = take_number(&mut bytes)?;
        let field = match tag & 7 {
            0 => {
                take_number(&mut bytes)?;
                Field::Other
            }
            1 => {
                bytes = bytes.get(8..)?;
                Field::Other
            }
            2 => {
                let length = usize::try_from(take_number(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(content)
            }
            5 => {
                bytes = bytes.get(4..)?;
                Field::Other
            }
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

/// Takes a number of variable length.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Adds a number of variable length.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Adds a field with a number; 0 is the default, which is not written.
fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put(out, field << 3);
        put(out, number);
    }
}

/// Adds a field with bytes.
fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put(out, field << 3 | 2);
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn details_are_read_as_they_are_written() {
        let details = [Detail::retry_after(Duration::from_millis(2500))];
        let value = encode(Code::RESOURCE_EXHAUSTED, "later", &details);
        assert_eq!(decode(&value), details);
        // RetryInfo { retry_delay: Duration { seconds: 2, nanos: 500000000 } }
        assert_eq!(details[0].value, [0x0a, 8, 0x08, 2, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]);
        assert_eq!(decode(&HeaderValue::from_static("no base64!")), []);
    }

    proptest! {
        #[test]
        fn what_an_upstream_sends_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = details(&bytes);
        }
    }
}
