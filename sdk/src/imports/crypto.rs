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

/// Whether an ES512 signature (RFC 7518 section 3.4) is valid. The key is [`PublicKey::Ec`] or [`PublicKey::Spki`].
///
/// A native build needs the SDK's feature `signatures` for this.
///
/// # Errors
/// The key is of another kind, or malformed.
pub fn verify_es512(
    key: &PublicKey,
    message: impl AsRef<[u8]>,
    signature: impl AsRef<[u8]>,
) -> Result<bool, String> {
    backend::crypto_additions::verify_es512(key, message.as_ref(), signature.as_ref())
}

/// Random bytes from the kernel, for keys, nonces and ids that nobody may guess; at most 64 KiB. For numbers that need not be
/// secret, [`random`](crate::random) is cheaper. In a native build they are not random.
///
/// # Panics
/// More than 64 KiB are asked for; in a component, this ends the call.
#[must_use]
pub fn random(length: u32) -> Vec<u8> {
    backend::crypto_additions::random(length)
}

/// Encrypts and authenticates a message that the plugin hands out and wants back unread and unchanged, such as a session in
/// a cookie. `context` says what the message is for, and must be the same in [`open`]. There is no expiry: write one into the
/// message.
///
/// The key is that of the plugin on all gateways with the same `gateway.secret`. A native build seals in a form of its own.
///
/// ```
/// use witgate_sdk::crypto;
///
/// let cookie = crypto::seal("session", "alice");
/// assert_eq!(crypto::open("session", &cookie).as_deref(), Some(&b"alice"[..]));
/// assert_eq!(crypto::open("password reset", &cookie), None);
/// ```
pub fn seal(context: impl AsRef<[u8]>, message: impl AsRef<[u8]>) -> Vec<u8> {
    backend::crypto_additions::seal(context.as_ref(), message.as_ref())
}

/// The message of [`seal`]; `None` if it was changed, or was not sealed by this plugin with this context.
pub fn open(context: impl AsRef<[u8]>, sealed: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    backend::crypto_additions::open(context.as_ref(), sealed.as_ref())
}
