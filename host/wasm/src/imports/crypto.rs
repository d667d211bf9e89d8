//! `crypto`: digests and signatures by the host.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac};

use crate::bindings::witgate::plugin::crypto::{Hash, Host, PublicKey, RsaKey, SignatureAlgorithm};
use crate::state::HostState;

impl Host for HostState {
    fn digest(&mut self, hash: Hash, data: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        self.charge()?;
        let algorithm = match hash {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        };
        Ok(digest::digest(algorithm, &data).as_ref().to_vec())
    }

    fn hmac(&mut self, hash: Hash, key: Vec<u8>, data: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        self.charge()?;
        Ok(hmac::sign(&hmac_key(hash, &key), &data).as_ref().to_vec())
    }

    fn hmac_verify(
        &mut self,
        hash: Hash,
        key: Vec<u8>,
        data: Vec<u8>,
        tag: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        self.charge()?;
        Ok(hmac::verify(&hmac_key(hash, &key), &data, &tag).is_ok())
    }

    fn verify(
        &mut self,
        algorithm: SignatureAlgorithm,
        key: PublicKey,
        message: Vec<u8>,
        signature: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, String>> {
        self.charge()?;
        Ok(verify(algorithm, &key, &message, &signature))
    }

    fn equal(&mut self, a: Vec<u8>, b: Vec<u8>) -> wasmtime::Result<bool> {
        self.charge()?;
        Ok(verify_slices_are_equal(&a, &b).is_ok())
    }
}

fn hmac_key(hash: Hash, key: &[u8]) -> hmac::Key {
    let algorithm = match hash {
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha384 => hmac::HMAC_SHA384,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::Key::new(algorithm, key)
}

/// Whether a signature is good.
fn verify(
    algorithm: SignatureAlgorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    match key {
        PublicKey::Rsa(RsaKey { n, e }) => {
            let parameters = rsa(algorithm).ok_or_else(|| misfit(algorithm, "an RSA key"))?;
            check_rsa(n, e)?;
            Ok(RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok())
        }
        PublicKey::Ec(point) => {
            let (curve, bytes) = match algorithm {
                SignatureAlgorithm::Es256 => ("P-256", 65),
                SignatureAlgorithm::Es384 => ("P-384", 97),
                _ => return Err(misfit(algorithm, "an elliptic-curve key")),
            };
            if point.len() != bytes || point.first() != Some(&4) {
                return Err(format!("an uncompressed {curve} point has {bytes} bytes and begins with 4"));
            }
            verify_parsed(algorithm, point, message, signature)
        }
        PublicKey::Ed25519(key) => {
            if algorithm != SignatureAlgorithm::Eddsa {
                return Err(misfit(algorithm, "an Ed25519 key"));
            }
            if key.len() != 32 {
                return Err(format!("an Ed25519 key has 32 bytes, this one has {}", key.len()));
            }
            verify_parsed(algorithm, key, message, signature)
        }
        PublicKey::Spki(document) => verify_parsed(algorithm, document, message, signature),
    }
}

fn verify_parsed(
    algorithm: SignatureAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    let key = UnparsedPublicKey::new(verification(algorithm), key);
    let parsed =
        key.parse().map_err(|_| format!("the key is malformed or does not fit {}", name(algorithm)))?;
    Ok(parsed.verify_sig(message, signature).is_ok())
}

fn verification(algorithm: SignatureAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        SignatureAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        SignatureAlgorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        SignatureAlgorithm::Eddsa => &ED25519,
        SignatureAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        SignatureAlgorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        SignatureAlgorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        SignatureAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        SignatureAlgorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        SignatureAlgorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
    }
}

fn rsa(algorithm: SignatureAlgorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        SignatureAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        SignatureAlgorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        SignatureAlgorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        SignatureAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        SignatureAlgorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        SignatureAlgorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        SignatureAlgorithm::Es256 | SignatureAlgorithm::Es384 | SignatureAlgorithm::Eddsa => return None,
    })
}

fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), String> {
    if modulus.first().is_none_or(|byte| *byte == 0) || exponent.first().is_none_or(|byte| *byte == 0) {
        return Err("modulus and exponent must not be empty or begin with zero bytes".to_owned());
    }
    let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
    if !(2048..=8192).contains(&bits) {
        return Err(format!("an RSA key must have 2048 to 8192 bits, this one has {bits}"));
    }
    if exponent.len() > 8 || exponent == [1] || exponent.last().is_none_or(|byte| byte % 2 == 0) {
        return Err("an RSA exponent must be odd, above 1 and at most 8 bytes long".to_owned());
    }
    Ok(())
}

fn misfit(algorithm: SignatureAlgorithm, key: &str) -> String {
    format!("{} cannot be verified with {key}", name(algorithm))
}

fn name(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm {
        SignatureAlgorithm::Rs256 => "RS256",
        SignatureAlgorithm::Rs384 => "RS384",
        SignatureAlgorithm::Rs512 => "RS512",
        SignatureAlgorithm::Ps256 => "PS256",
        SignatureAlgorithm::Ps384 => "PS384",
        SignatureAlgorithm::Ps512 => "PS512",
        SignatureAlgorithm::Es256 => "ES256",
        SignatureAlgorithm::Es384 => "ES384",
        SignatureAlgorithm::Eddsa => "EdDSA",
    }
}
