//! Cryptography computed by the gateway: in constant time where necessary, and faster than in the plugin.

use super::backend;

pub use crate::bindings::host::witgate::plugin::crypto::{Hash, PublicKey, RsaKey, SignatureAlgorithm};

/// The digest of some data.
pub fn digest(hash: Hash, data: impl AsRef<[u8]>) -> Vec<u8> {
    backend::crypto::digest(hash, data.as_ref())
}

/// An HMAC (RFC 2104). To check one, use [`hmac_verify`].
pub fn hmac(hash: Hash, key: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Vec<u8> {
    backend::crypto::hmac(hash, key.as_ref(), data.as_ref())
}

/// Whether an HMAC is valid. Compares in constant time.
pub fn hmac_verify(hash: Hash, key: impl AsRef<[u8]>, data: impl AsRef<[u8]>, tag: impl AsRef<[u8]>) -> bool {
    backend::crypto::hmac_verify(hash, key.as_ref(), data.as_ref(), tag.as_ref())
}

/// Whether a signature is valid. ES256 and ES384 signatures have the fixed-length form of RFC 7518 section 3.4.
///
/// A native build needs the SDK's feature `signatures` for this.
///
/// # Errors
/// The key does not fit the algorithm, or is malformed.
pub fn verify(
    algorithm: SignatureAlgorithm,
    key: &PublicKey,
    message: impl AsRef<[u8]>,
    signature: impl AsRef<[u8]>,
) -> Result<bool, String> {
    backend::crypto::verify(algorithm, key, message.as_ref(), signature.as_ref())
}

/// Compares two byte strings in a time that depends only on their lengths. Use it for keys and tokens.
pub fn equal(a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> bool {
    backend::crypto::equal(a.as_ref(), b.as_ref())
}
