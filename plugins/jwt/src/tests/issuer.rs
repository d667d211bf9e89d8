//! An issuer of tokens, with keys of every kind.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use witgate_sdk::crypto::{self, Hash};

/// The time at the start of every test: 2026-01-01T00:00:00Z.
pub(super) const NOW: u64 = 1_767_225_600;

pub(super) struct Issuer {
    algorithm: &'static str,
    kid: String,
    key: Key,
}

enum Key {
    Hmac(Hash, String),
    Rsa(&'static dyn RsaEncoding, RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Issuer {
    pub(super) fn new(algorithm: &'static str, kid: &str) -> Self {
        let rsa = |encoding| Key::Rsa(encoding, RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"));
        let key = match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256 as &dyn RsaEncoding),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => Key::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key")),
            "ES384" => Key::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key")),
            "EdDSA" => Key::Ed(Ed25519KeyPair::generate().expect("a key")),
            _ => return Self::hmac(algorithm, kid),
        };
        Self { algorithm, kid: kid.to_owned(), key }
    }

    pub(super) fn hmac(algorithm: &'static str, kid: &str) -> Self {
        let (hash, size) = match algorithm {
            "HS256" => (Hash::Sha256, 32),
            "HS384" => (Hash::Sha384, 48),
            _ => (Hash::Sha512, 64),
        };
        let secret = format!("{kid:=<size$}");
        Self { algorithm, kid: kid.to_owned(), key: Key::Hmac(hash, secret) }
    }

    /// The key as it is written in the plugin's settings.
    pub(super) fn settings(&self) -> Value {
        match &self.key {
            Key::Hmac(_, secret) => json!({ "kid": self.kid, "alg": self.algorithm, "secret": secret }),
            _ => json!({ "jwk": self.jwk() }),
        }
    }

    /// The key as a JWK.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Hmac(_, secret) => json!({ "kty": "oct", "k": encoded(secret) }),
            Key::Rsa(_, pair) => {
                let (n, e) = components(pair);
                json!({ "kty": "RSA", "n": encoded(n), "e": encoded(e) })
            }
            Key::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                let curve = if point.len() == 65 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y) })
            }
            Key::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key()) }),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm);
        jwk
    }

    /// The modulus of an RSA key, for tests that use it as an HMAC secret.
    pub(super) fn modulus(&self) -> Vec<u8> {
        match &self.key {
            Key::Rsa(_, pair) => components(pair).0,
            _ => panic!("not an RSA key"),
        }
    }

    /// A token with these claims and a valid signature.
    pub(super) fn token(&self, claims: Value) -> String {
        self.token_with(json!({ "alg": self.algorithm, "kid": self.kid }), claims)
    }

    /// A token with this header, signed with the issuer's key.
    pub(super) fn token_with(&self, header: Value, claims: Value) -> String {
        self.token_of(&header, claims.to_string().as_bytes())
    }

    /// A token whose payload has these bytes.
    pub(super) fn token_of(&self, header: &Value, claims: &[u8]) -> String {
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", encoded(signature))
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Hmac(hash, secret) => crypto::hmac(*hash, secret, signed),
            Key::Rsa(encoding, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, signed, &mut signature).expect("a signature");
                signature
            }
            Key::Ec(pair) => pair.sign(&random, signed).expect("a signature").as_ref().to_vec(),
            Key::Ed(pair) => pair.sign(signed).as_ref().to_vec(),
        }
    }
}

pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Modulus and exponent from the DER encoding of a 2048-bit key (RFC 8017 appendix A.1.1), in which all lengths
/// are known.
fn components(pair: &RsaKeyPair) -> (Vec<u8>, Vec<u8>) {
    let der = pair.public_key().as_ref();
    (der[9..265].to_vec(), der[267..].to_vec())
}

/// An issuer, and its public key as PEM.
pub(super) fn with_pem() -> (String, Issuer) {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let der = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).expect("a public key has a DER form");
    let base64 = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
    (pem, Issuer { algorithm: "ES256", kid: "pem".to_owned(), key: Key::Ec(pair) })
}
