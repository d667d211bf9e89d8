//! Names of keys in Redis.
//!
//! A name begins with `witgate:`, so that an access control list can allow it. Then comes a hash tag, which
//! determines the slot in a cluster, and 16 bytes of an HMAC-SHA-256 under a key that is derived from the fleet's
//! secret. Who reads the names learns neither who was counted nor what a plugin looked up, and cannot compute the
//! name that belongs to a caller. The tag has 16 bits of a plain hash, so that the names under all secrets of the
//! fleet are in one slot.

use std::fmt::Write;

use aws_lc_rs::{digest, hkdf, hmac};
use witgate_config::model::Secret;

/// Bytes of an HMAC that are used.
const USED: usize = 16;

/// The names for one use of the state, under every secret of the fleet.
pub(super) struct Names {
    /// Keys derived for this use. Names are written under the first one.
    keys: Vec<hmac::Key>,
}

impl Names {
    /// Names for one use. Different uses never have the same names.
    pub(super) fn derive(secrets: &[Secret], usage: &str) -> Names {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"witgate");
        let derive = |secret: &Secret| {
            let pseudorandom = salt.extract(secret.bytes());
            let information = [usage.as_bytes()];
            let expanded = pseudorandom
                .expand(&information, hmac::HMAC_SHA256)
                .expect("RFC 5869 allows 255 times the length of the hash, and this is once");
            hmac::Key::from(expanded)
        };
        Names { keys: secrets.iter().map(derive).collect() }
    }

    /// Number of names of each object.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// The names of the object that `parts` identify, under each secret. `letter` marks the kind of the name, for
    /// people who inspect the server.
    pub(super) fn of(&self, letter: char, tag: u16, parts: &[&[u8]]) -> impl Iterator<Item = String> {
        self.keys.iter().map(move |key| {
            let mut context = hmac::Context::with_key(key);
            for part in parts {
                context.update(&(part.len() as u64).to_le_bytes());
                context.update(part);
            }
            let mut name = String::with_capacity(16 + 2 * USED);
            let _infallible = write!(name, "witgate:{{{tag:04x}}}:{letter}:");
            for byte in &context.sign().as_ref()[..USED] {
                let _infallible = write!(name, "{byte:02x}");
            }
            name
        })
    }
}

/// The tag of a plugin. All its keys are in one slot.
pub(super) fn tag_of(plugin: &str) -> u16 {
    let digest = digest::digest(&digest::SHA256, plugin.as_bytes());
    u16::from_le_bytes([digest.as_ref()[0], digest.as_ref()[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(secrets: &[&str], usage: &str, parts: &[&[u8]]) -> Vec<String> {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(secret.as_bytes())).collect();
        Names::derive(&secrets, usage).of('c', 0x1f, parts).collect()
    }

    #[test]
    fn a_name_depends_on_secret_use_and_every_part() {
        let name = |secret, usage, parts: &[&[u8]]| names(&[secret], usage, parts).remove(0);
        let one = name("s", "u", &[b"ab", b"c"]);
        assert!(one.starts_with("witgate:{001f}:c:") && one.len() == 17 + 2 * USED, "{one}");
        assert_eq!(one, name("s", "u", &[b"ab", b"c"]));
        for other in
            [name("t", "u", &[b"ab", b"c"]), name("s", "v", &[b"ab", b"c"]), name("s", "u", &[b"a", b"bc"])]
        {
            assert_ne!(one, other);
        }
        assert_eq!(names(&["t", "s"], "u", &[b"ab", b"c"])[1], one);
    }
}
