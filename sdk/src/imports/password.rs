//! Verifies passwords against stored hashes: bcrypt, Argon2id, and the forms of `htpasswd` (`$apr1$`, `{SHA}`).
//!
//! The gateway does it on threads of its own, so it takes none of the call's CPU time. The call waits, as for a fetch.

use super::backend;

pub use crate::bindings::additions::witgate::plugin0_2_0::password::Error;

/// Whether a password is the one that was hashed. Verify an unknown user's password too, against a hash that nobody has the
/// password of: otherwise the time tells which users exist.
///
/// # Errors
/// The stored hash has no known form or would cost too much, or too many verifications wait.
pub fn verify(password: impl AsRef<[u8]>, hash: &str) -> Result<bool, Error> {
    backend::password::verify(password.as_ref(), hash)
}
