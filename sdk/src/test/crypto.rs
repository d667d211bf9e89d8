//! The gateway's cryptography in a native build.

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::imports::crypto::{Hash, PublicKey, SignatureAlgorithm};

pub(crate) fn digest(hash: Hash, data: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha256 => Sha256::digest(data).to_vec(),
        Hash::Sha384 => Sha384::digest(data).to_vec(),
        Hash::Sha512 => Sha512::digest(data).to_vec(),
    }
}

/// RFC 2104 section 2.
pub(crate) fn hmac(hash: Hash, key: &[u8], data: &[u8]) -> Vec<u8> {
    let block = if hash == Hash::Sha256 { 64 } else { 128 };
    let mut padded = if key.len() > block { digest(hash, key) } else { key.to_vec() };
    padded.resize(block, 0);
    let pad = |with: u8| padded.iter().map(move |byte| byte ^ with);
    let inner = digest(hash, &pad(0x36).chain(data.iter().copied()).collect::<Vec<u8>>());
    digest(hash, &pad(0x5c).chain(inner).collect::<Vec<u8>>())
}

pub(crate) fn hmac_verify(hash: Hash, key: &[u8], data: &[u8], tag: &[u8]) -> bool {
    equal(&hmac(hash, key, data), tag)
}

pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(not(feature = "signatures"))]
pub(crate) fn verify(_: SignatureAlgorithm, _: &PublicKey, _: &[u8], _: &[u8]) -> Result<bool, String> {
    panic!(
        "to check signatures natively, add to Cargo.toml: [dev-dependencies] witgate-sdk = {{ features = [\"signatures\"] }}"
    )
}

#[cfg(feature = "signatures")]
pub(crate) fn verify(
    algorithm: SignatureAlgorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    use SignatureAlgorithm as Algorithm;
    use aws_lc_rs::signature as lc;

    let by_components: Option<&'static lc::RsaParameters> = match algorithm {
        Algorithm::Rs256 => Some(&lc::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&lc::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&lc::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&lc::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&lc::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&lc::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Eddsa => None,
    };
    let of_points: Option<&'static dyn lc::VerificationAlgorithm> = match algorithm {
        Algorithm::Es256 => Some(&lc::ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => Some(&lc::ECDSA_P384_SHA384_FIXED),
        Algorithm::Eddsa => Some(&lc::ED25519),
        _ => None,
    };
    let fits_curve = |point: &[u8]| match algorithm {
        Algorithm::Es256 => point.len() == 65,
        Algorithm::Es384 => point.len() == 97,
        _ => false,
    };
    match (key, by_components, of_points) {
        (PublicKey::Rsa(key), Some(parameters), _) => {
            if key.n.len() < 256 || key.n.len() > 1024 {
                return Err("an RSA key has 2048 to 8192 bits".to_owned());
            }
            let key = lc::RsaPublicKeyComponents { n: &key.n, e: &key.e };
            Ok(key.verify(parameters, message, signature).is_ok())
        }
        (PublicKey::Ec(point), _, Some(curve)) if fits_curve(point) => {
            Ok(lc::UnparsedPublicKey::new(curve, point).verify(message, signature).is_ok())
        }
        (PublicKey::Ed25519(key), _, Some(curve)) if algorithm == Algorithm::Eddsa && key.len() == 32 => {
            Ok(lc::UnparsedPublicKey::new(curve, key).verify(message, signature).is_ok())
        }
        (PublicKey::Spki(der), Some(parameters), _) => verify_spki(parameters, der, message, signature),
        (PublicKey::Spki(der), _, Some(curve)) => verify_spki(curve, der, message, signature),
        _ => Err(format!("{key:?} does not fit {algorithm:?}")),
    }
}

#[cfg(feature = "signatures")]
fn verify_spki(
    algorithm: &'static dyn aws_lc_rs::signature::VerificationAlgorithm,
    der: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    let key =
        aws_lc_rs::signature::ParsedPublicKey::new(algorithm, der).map_err(|error| error.to_string())?;
    Ok(key.verify_sig(message, signature).is_ok())
}
