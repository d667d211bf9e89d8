//! Interface `crypto`: digests and signatures, computed by the host.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList};

use crate::bindings::name;
use crate::bindings::witgate::plugin::crypto::{Hash, PublicKey, RsaKey, SignatureAlgorithm};
use crate::state::HostState;

type Bytes = WasmList<u8>;

/// Defines the interface. Written by hand, because the generated trait would copy every key and message out of the
/// guest first.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut crypto = linker.instance(name::CRYPTO)?;
    crypto.func_wrap("digest", |mut store, (hash, data): (Hash, Bytes)| {
        store.data_mut().charge()?;
        Ok((digest::digest(digest_algorithm(hash), data.as_le_slice(&store)).as_ref().to_vec(),))
    })?;
    crypto.func_wrap("hmac", |mut store, (hash, key, data): (Hash, Bytes, Bytes)| {
        store.data_mut().charge()?;
        let key = LastKey::take(&mut store, hash, &key);
        let tag = hmac::sign(&key.prepared, data.as_le_slice(&store));
        store.data_mut().last_key = Some(key);
        Ok((tag.as_ref().to_vec(),))
    })?;
    crypto.func_wrap("hmac-verify", |mut store, (hash, key, data, tag): (Hash, Bytes, Bytes, Bytes)| {
        store.data_mut().charge()?;
        let key = LastKey::take(&mut store, hash, &key);
        let verdict = hmac::verify(&key.prepared, data.as_le_slice(&store), tag.as_le_slice(&store));
        store.data_mut().last_key = Some(key);
        Ok((verdict.is_ok(),))
    })?;
    crypto.func_wrap(
        "verify",
        |mut store, (algorithm, key, message, signature): (SignatureAlgorithm, PublicKey, Bytes, Bytes)| {
            store.data_mut().charge()?;
            Ok((verify(algorithm, &key, message.as_le_slice(&store), signature.as_le_slice(&store)),))
        },
    )?;
    crypto.func_wrap("equal", |mut store, (a, b): (Bytes, Bytes)| {
        store.data_mut().charge()?;
        Ok((verify_slices_are_equal(a.as_le_slice(&store), b.as_le_slice(&store)).is_ok(),))
    })
}

fn digest_algorithm(hash: Hash) -> &'static digest::Algorithm {
    match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

/// The HMAC key that an instance used last, prepared for use. Preparing a key hashes two blocks, as much as a
/// short message, and nearly every call uses the same key.
pub(crate) struct LastKey {
    algorithm: hmac::Algorithm,
    bytes: Box<[u8]>,
    prepared: hmac::Key,
}

impl LastKey {
    /// Takes the last key if it is this one; otherwise prepares this one. The caller puts the key back.
    fn take(store: &mut StoreContextMut<'_, HostState>, hash: Hash, key: &Bytes) -> Box<Self> {
        let algorithm = match hash {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha384 => hmac::HMAC_SHA384,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        let last = store.data_mut().last_key.take();
        let key = key.as_le_slice(&*store);
        last.filter(|last| last.algorithm == algorithm && verify_slices_are_equal(&last.bytes, key).is_ok())
            .unwrap_or_else(|| {
                Box::new(LastKey { algorithm, bytes: key.into(), prepared: hmac::Key::new(algorithm, key) })
            })
    }
}

/// Whether a signature is valid.
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

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    };

    use super::*;

    const MESSAGE: &[u8] = b"what is signed";

    /// Checks that a valid signature is accepted, that a changed message is refused, and that a key is refused for
    /// another kind of algorithm.
    fn check(algorithm: SignatureAlgorithm, keys: &[PublicKey], signature: &[u8]) {
        for key in keys {
            assert_eq!(verify(algorithm, key, MESSAGE, signature), Ok(true), "{}", name(algorithm));
            assert_eq!(verify(algorithm, key, b"something else", signature), Ok(false));
            assert_eq!(verify(algorithm, key, MESSAGE, &signature[1..]), Ok(false));
            let other =
                if rsa(algorithm).is_some() { SignatureAlgorithm::Eddsa } else { SignatureAlgorithm::Rs256 };
            assert!(verify(other, key, MESSAGE, signature).is_err());
        }
    }

    #[test]
    fn every_rsa_algorithm_verifies_its_own() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let document: PublicKeyX509Der<'_> = public.as_der().unwrap();
        // An RSAPublicKey (RFC 8017 appendix A.1.1) of this size: 9 bytes of framing, 256 of modulus, 5 of exponent.
        let parts = RsaKey { n: public.as_ref()[9..265].to_vec(), e: vec![1, 0, 1] };
        let keys = [PublicKey::Rsa(parts), PublicKey::Spki(document.as_ref().to_vec())];
        let schemes: [(SignatureAlgorithm, &'static dyn RsaEncoding); 6] = [
            (SignatureAlgorithm::Rs256, &RSA_PKCS1_SHA256),
            (SignatureAlgorithm::Rs384, &RSA_PKCS1_SHA384),
            (SignatureAlgorithm::Rs512, &RSA_PKCS1_SHA512),
            (SignatureAlgorithm::Ps256, &RSA_PSS_SHA256),
            (SignatureAlgorithm::Ps384, &RSA_PSS_SHA384),
            (SignatureAlgorithm::Ps512, &RSA_PSS_SHA512),
        ];
        for (algorithm, scheme) in schemes {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(scheme, &SystemRandom::new(), MESSAGE, &mut signature).unwrap();
            check(algorithm, &keys, &signature);
        }
    }

    #[test]
    fn every_curve_verifies_its_own() {
        let curves: [(SignatureAlgorithm, &'static EcdsaSigningAlgorithm); 2] = [
            (SignatureAlgorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (SignatureAlgorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        ];
        for (algorithm, curve) in curves {
            let pair = EcdsaKeyPair::generate(curve).unwrap();
            let document: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            let point = pair.public_key().as_ref().to_vec();
            let keys = [PublicKey::Ec(point), PublicKey::Spki(document.as_ref().to_vec())];
            let signature = pair.sign(&SystemRandom::new(), MESSAGE).unwrap();
            check(algorithm, &keys, signature.as_ref());
        }
        let pair = Ed25519KeyPair::generate().unwrap();
        let document: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = pair.public_key().as_ref().to_vec();
        let keys = [PublicKey::Ed25519(key), PublicKey::Spki(document.as_ref().to_vec())];
        check(SignatureAlgorithm::Eddsa, &keys, pair.sign(MESSAGE).as_ref());
    }
}
