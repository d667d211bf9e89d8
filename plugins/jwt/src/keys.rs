//! Keys, each for one algorithm, and which of them may have signed a token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use witgate_sdk::crypto::{self, PublicKey};
use witgate_sdk::{SettingsProblem, settings};

use crate::algorithm::{Algorithm, Family};
use crate::jwk;
use crate::refusal::Refusal;
use crate::token::Token;

/// One key in the settings: a `secret`, a `pem`, or a `jwk`.
#[settings]
pub(crate) struct Settings {
    /// The id by which tokens name the key (`kid`). If absent, the key is tried for every token of its algorithm.
    kid: Option<String>,
    /// The algorithm of the key. Not needed if a JWK names it.
    alg: Option<Algorithm>,
    /// A secret for HMAC, as text. It must be at least as long as the hash (32 bytes for HS256).
    secret: Option<String>,
    /// A public key as PEM (`-----BEGIN PUBLIC KEY-----`).
    pem: Option<String>,
    /// A JSON Web Key (RFC 7517).
    jwk: Option<Value>,
}

/// A key for one algorithm.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) material: Material,
}

/// The key material.
#[derive(Debug)]
pub(crate) enum Material {
    Secret(Vec<u8>),
    Public(PublicKey),
}

/// A set of keys with different ids.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    pub(crate) keys: Vec<Key>,
}

impl KeySet {
    /// Whether one of the keys may have signed the token.
    pub(crate) fn knows(&self, token: &Token) -> bool {
        self.candidates(token).next().is_some()
    }

    /// Checks the signature; `None` if no key here may have made it.
    pub(crate) fn verify(&self, token: &Token) -> Option<Result<(), Refusal>> {
        let mut candidates = self.candidates(token).peekable();
        candidates.peek()?;
        let good = candidates.any(|key| key.algorithm == token.heading.algorithm && key.signed(token));
        Some(if good { Ok(()) } else { Err(Refusal::Invalid("the signature is invalid")) })
    }

    /// The keys that may have signed the token: if it names a key, only that key, whatever its algorithm;
    /// otherwise all keys of its algorithm.
    fn candidates(&self, token: &Token) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| match (&key.kid, &token.heading.kid) {
            (Some(own), Some(named)) => own == named,
            _ => key.algorithm == token.heading.algorithm,
        })
    }
}

impl Key {
    /// Makes a key, if the material fits the algorithm.
    pub(crate) fn new(kid: Option<String>, algorithm: Algorithm, material: Material) -> Result<Self, String> {
        match (&material, algorithm.family()) {
            (Material::Secret(secret), Family::Hmac(hash)) => {
                let least = match hash {
                    crypto::Hash::Sha256 => 32,
                    crypto::Hash::Sha384 => 48,
                    crypto::Hash::Sha512 => 64,
                };
                if secret.len() < least {
                    // Required by RFC 7518 section 3.2.
                    return Err(format!("a secret for this algorithm has at least {least} bytes"));
                }
            }
            (Material::Public(PublicKey::Rsa(key)), Family::Rsa(_)) => {
                // Required by RFC 7518 section 3.3.
                if !(256..=1024).contains(&key.n.len()) || key.e.is_empty() {
                    return Err("an RSA key has 2048 to 8192 bits".to_owned());
                }
            }
            (Material::Public(PublicKey::Ec(point)), Family::Ec(_, size)) if point.len() == 1 + 2 * size => {}
            (Material::Public(PublicKey::Ed25519(key)), Family::Ed25519) if key.len() == 32 => {}
            (Material::Public(PublicKey::Spki(_)), Family::Rsa(_) | Family::Ec(..) | Family::Ed25519) => {}
            _ => return Err("the key does not fit its algorithm".to_owned()),
        }
        Ok(Self { kid, algorithm, material })
    }

    fn signed(&self, token: &Token) -> bool {
        let algorithm = match (&self.material, self.algorithm.family()) {
            (Material::Secret(secret), Family::Hmac(hash)) => {
                return crypto::hmac_verify(hash, secret, token.signed, &token.signature);
            }
            (Material::Public(_), Family::Rsa(algorithm) | Family::Ec(algorithm, _)) => algorithm,
            (Material::Public(_), Family::Ed25519) => crypto::SignatureAlgorithm::Eddsa,
            _ => return false,
        };
        match &self.material {
            Material::Public(key) => {
                crypto::verify(algorithm, key, token.signed, &token.signature) == Ok(true)
            }
            Material::Secret(_) => false,
        }
    }
}

/// Reads the keys from the settings.
pub(crate) fn from_settings(settings: Vec<Settings>, problems: &mut Vec<SettingsProblem>) -> KeySet {
    let mut set = KeySet::default();
    for (index, settings) in settings.into_iter().enumerate() {
        match from_one(settings) {
            Ok(key) if key.kid.is_some() && set.keys.iter().any(|known| known.kid == key.kid) => {
                problems.push(SettingsProblem::new(
                    format!("/keys/{index}"),
                    "another key has this id, so a token could not tell them apart",
                ));
            }
            Ok(key) => set.keys.push(key),
            Err((field, message)) => {
                problems.push(SettingsProblem::new(format!("/keys/{index}{field}"), message));
            }
        }
    }
    set
}

/// Reads one key. The error names the field that is wrong and the reason.
fn from_one(settings: Settings) -> Result<Key, (&'static str, String)> {
    let algorithm = settings.alg.ok_or(("", "name the algorithm of the key: `alg`".to_owned()));
    match (settings.secret, settings.pem, settings.jwk) {
        (Some(secret), None, None) => {
            Key::new(settings.kid, algorithm?, Material::Secret(secret.into_bytes()))
                .map_err(|message| ("/secret", message))
        }
        (None, Some(pem), None) => {
            let spki = from_pem(&pem)
                .ok_or(("/pem", "write a public key: `-----BEGIN PUBLIC KEY-----`".to_owned()))?;
            Key::new(settings.kid, algorithm?, Material::Public(PublicKey::Spki(spki)))
                .map_err(|message| ("/pem", message))
        }
        (None, None, Some(jwk)) => {
            let key = jwk::read(jwk, settings.alg).map_err(|message| ("/jwk", message))?;
            Ok(Key { kid: settings.kid.or(key.kid), ..key })
        }
        _ => Err(("", "a key is exactly one of `secret`, `pem` and `jwk`".to_owned())),
    }
}

/// The DER encoding in a PEM text (RFC 7468 section 13).
fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let body =
        pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(base64).ok().filter(|der| !der.is_empty())
}
