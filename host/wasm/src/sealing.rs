//! Sealing: what a plugin hands out and wants back unread and unchanged, such as a session in a cookie.
//!
//! AES-256-GCM-SIV (RFC 8452) under a key that is derived from the secret of the fleet for each plugin, with a random nonce. It
//! stays safe for far more messages than a fleet ever seals, and if a nonce is ever used twice, it shows only whether both
//! messages were equal. A sealed message is the format's number, the nonce, the ciphertext and the tag.

use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use witgate_config::model::Secret;

/// The number of the format that is written.
const FORMAT: u8 = 1;

/// The keys of one plugin: it seals with the first and opens with all.
pub(crate) struct Sealer(Vec<LessSafeKey>);

impl Sealer {
    /// The keys of a plugin, derived from the secrets of the fleet. Without any, they are derived from a secret that this process
    /// has for itself, so that no other gateway, and not this one after a restart, opens what it seals.
    pub(crate) fn derive(secrets: &[Secret], plugin: &str) -> Sealer {
        let secrets = if secrets.is_empty() { std::slice::from_ref(of_process()) } else { secrets };
        let salt = Salt::new(HKDF_SHA256, b"witgate");
        let derive = |secret: &Secret| {
            let pseudorandom = salt.extract(secret.bytes());
            let information = [&b"seal "[..], plugin.as_bytes()];
            let expanded = pseudorandom
                .expand(&information, &AES_256_GCM_SIV)
                .expect("RFC 5869 allows 255 times the length of the hash, and this is once");
            LessSafeKey::new(UnboundKey::from(expanded))
        };
        Sealer(secrets.iter().map(derive).collect())
    }

    /// Seals a message so that it can be opened only with the same context.
    pub(crate) fn seal(&self, context: &[u8], message: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + message.len() + AES_256_GCM_SIV.tag_len());
        sealed.push(FORMAT);
        sealed.extend(nonce);
        let mut text = message.to_vec();
        self.0[0]
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(context), &mut text)
            .expect("a message of a plugin is shorter than the 64 GiB of RFC 8452");
        sealed.append(&mut text);
        sealed
    }

    /// Opens a sealed message. `None`: it was changed, was not sealed by this plugin, or with another context.
    pub(crate) fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.strip_prefix(&[FORMAT])?.split_first_chunk::<NONCE_LEN>()?;
        self.0.iter().find_map(|key| {
            let mut text = text.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key.open_in_place(nonce, aad(context), &mut text).ok()?.len();
            text.truncate(length);
            Some(text)
        })
    }
}

/// What is authenticated in addition to the message.
fn aad(context: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([&[FORMAT], context].concat())
}

/// The secret of this process, for gateways without a secret of the fleet.
fn of_process() -> &'static Secret {
    static SECRET: OnceLock<Secret> = OnceLock::new();
    SECRET.get_or_init(|| Secret::new(random::<32>()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once it has started");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secrets: &[&str], plugin: &str) -> Sealer {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(secret.as_bytes())).collect();
        Sealer::derive(&secrets, plugin)
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_same_plugin_with_the_same_context_only() {
        let login = sealer(&["first"], "login");
        let sealed = login.seal(b"session", b"alice");
        assert_eq!(login.open(b"session", &sealed).as_deref(), Some(&b"alice"[..]));
        assert_eq!(sealer(&["first"], "login").open(b"session", &sealed).as_deref(), Some(&b"alice"[..]));
        assert_eq!(login.open(b"", &login.seal(b"", b"")).as_deref(), Some(&b""[..]));
        assert_eq!(login.open(b"other", &sealed), None);
        assert_eq!(sealer(&["first"], "other").open(b"session", &sealed), None);
        assert_eq!(sealer(&["second"], "login").open(b"session", &sealed), None);
        assert_ne!(sealed, login.seal(b"session", b"alice"), "nobody sees that two messages are equal");
    }

    #[test]
    fn every_changed_or_shortened_message_stays_shut() {
        let login = sealer(&["first"], "login");
        let sealed = login.seal(b"session", b"alice");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(login.open(b"session", &changed), None, "byte {at}");
            assert_eq!(login.open(b"session", &sealed[..at]), None, "only {at} bytes");
        }
        assert_eq!(login.open(b"session", &[&sealed[..], b"x"].concat()), None);
    }

    #[test]
    fn a_secret_is_replaced_without_losing_what_was_sealed() {
        let sealed = sealer(&["old"], "login").seal(b"", b"kept");
        let both = sealer(&["new", "old"], "login");
        assert_eq!(both.open(b"", &sealed).as_deref(), Some(&b"kept"[..]));
        assert_eq!(sealer(&["old"], "login").open(b"", &both.seal(b"", b"x")), None, "the first one writes");
    }

    #[test]
    fn without_a_secret_the_process_has_one() {
        let sealed = sealer(&[], "login").seal(b"", b"here");
        assert_eq!(sealer(&[], "login").open(b"", &sealed).as_deref(), Some(&b"here"[..]));
    }
}
