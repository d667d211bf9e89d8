//! What version 0.2.0 adds to the gateway's cryptography, in a native build.

use super::crypto::{equal, hmac};
use crate::imports::crypto::{Hash, PublicKey};
use crate::imports::random;

/// Bytes of the tag of a sealed message.
const TAG: usize = 32;

/// Bytes of its nonce.
const NONCE: usize = 8;

pub(crate) fn random(length: u32) -> Vec<u8> {
    assert!(length <= 64 << 10, "at most 65536 random bytes are given at once");
    let numbers = std::iter::repeat_with(random::number).flat_map(u64::to_le_bytes);
    numbers.take(length as usize).collect()
}

/// A nonce, the message combined with a stream of HMACs, and an HMAC over all.
pub(crate) fn seal(context: &[u8], message: &[u8]) -> Vec<u8> {
    let mut sealed = random::number().to_le_bytes().to_vec();
    let text = combined(&sealed, message);
    sealed.extend(text);
    let tag = tag(context, &sealed);
    sealed.extend(tag);
    sealed
}

pub(crate) fn open(context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (body, found) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
    let (nonce, text) = body.split_at_checked(NONCE)?;
    equal(&tag(context, body), found).then(|| combined(nonce, text))
}

fn combined(nonce: &[u8], text: &[u8]) -> Vec<u8> {
    let stream =
        (0_u64..).flat_map(|block| hmac(Hash::Sha256, b"stream", &[nonce, &block.to_le_bytes()].concat()));
    text.iter().zip(stream).map(|(byte, other)| byte ^ other).collect()
}

fn tag(context: &[u8], body: &[u8]) -> Vec<u8> {
    let length = (context.len() as u64).to_le_bytes();
    hmac(Hash::Sha256, b"tag", &[&length, context, body].concat())
}

#[cfg(not(feature = "signatures"))]
pub(crate) fn verify_es512(_: &PublicKey, _: &[u8], _: &[u8]) -> Result<bool, String> {
    panic!(
        "to check signatures natively, add to Cargo.toml: [dev-dependencies] witgate-sdk = {{ features = [\"signatures\"] }}"
    )
}

#[cfg(feature = "signatures")]
pub(crate) fn verify_es512(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<bool, String> {
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, ParsedPublicKey};

    let key = match key {
        PublicKey::Ec(point) if point.len() == 133 => point,
        PublicKey::Spki(document) => document,
        _ => return Err(format!("{key:?} does not fit ES512")),
    };
    let key = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, key).map_err(|error| error.to_string())?;
    Ok(key.verify_sig(message, signature).is_ok())
}
