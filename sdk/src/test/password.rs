//! The stored hashes whose passwords a test knows.

use super::gateway::with_state;
use crate::imports::password::Error;

pub(crate) fn verify(password: &[u8], hash: &str) -> Result<bool, Error> {
    with_state(|state| match state.passwords.get(hash) {
        Some(known) => Ok(known.as_bytes() == password),
        None => Err(Error::UnknownForm),
    })
}
