//! The known keys, stored as hashes.

use std::hint::black_box;

use crate::Key;
use witgate_sdk::crypto::{self, Hash};
use witgate_sdk::{Identity, SettingsProblem};

/// The SHA-256 of the empty string. Such a hash in the settings means that the key was lost when it was computed.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Hashes and the identities of their callers.
pub(crate) struct Keys {
    hashes: Vec<[u8; 32]>,
    owners: Vec<Identity>,
}

impl Keys {
    pub(crate) fn new(keys: Vec<Key>) -> Result<Self, Vec<SettingsProblem>> {
        let mut problems = Vec::new();
        let (mut hashes, mut owners) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        if keys.is_empty() {
            problems.push(SettingsProblem::new("/keys", "at least one key is required"));
        }
        for (index, key) in keys.into_iter().enumerate() {
            let mut problem = |field: &str, message: &str| {
                problems.push(SettingsProblem::new(format!("/keys/{index}/{field}"), message));
            };
            if key.name.is_empty() {
                problem("name", "the name of a caller must not be empty");
            }
            if !is_field_text(&key.name) {
                problem("name", "a name has no control characters");
            }
            for (claim, _) in key.claims.iter().filter(|(_, value)| !is_field_text(value)) {
                let claim = claim.replace('~', "~0").replace('/', "~1");
                problem(&format!("claims/{claim}"), "a claim has no control characters");
            }
            match hexadecimal(&key.sha256) {
                None => problem(
                    "sha256",
                    "a SHA-256 is 64 hexadecimal digits, e.g. of `printf %s KEY | sha256sum`",
                ),
                Some(_) if key.sha256.eq_ignore_ascii_case(EMPTY) => {
                    problem("sha256", "this is the hash of an empty key");
                }
                Some(hash) if hashes.contains(&hash) => problem("sha256", "this key is listed already"),
                Some(hash) => {
                    hashes.push(hash);
                    owners.push(Identity { subject: key.name, claims: key.claims.into_iter().collect() });
                }
            }
        }
        if problems.is_empty() { Ok(Self { hashes, owners }) } else { Err(problems) }
    }

    /// The caller that a key belongs to. The time depends only on the number of keys, not on which key matches or
    /// how closely.
    pub(crate) fn owner(&self, key: &[u8]) -> Option<Identity> {
        let presented = crypto::digest(Hash::Sha256, key);
        let mut found = 0;
        for (index, hash) in self.hashes.iter().enumerate() {
            let difference = hash.iter().zip(&presented).fold(0, |difference, (a, b)| difference | (a ^ b));
            // All bits are set if the hashes are equal, without a branch.
            let fits = usize::from(black_box(difference) == 0).wrapping_neg();
            found |= (index + 1) & fits;
        }
        found.checked_sub(1).map(|index| self.owners[index].clone())
    }
}

/// Whether a header can carry a text (RFC 9110 section 5.5): it has no control character but the tab. The gateway
/// refuses the whole identity otherwise.
fn is_field_text(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit =
            |index: usize| char::from(digits[index]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}
