//! What version 0.2.0 adds to `crypto`: ES512, random bytes, sealing.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList};

use crate::bindings::name;
use crate::bindings::witgate::plugin::crypto::PublicKey;
use crate::input_tracker::Mark;
use crate::state::HostState;

type Bytes = WasmList<u8>;

/// The most random bytes at once.
const RANDOM: u32 = 64 << 10;

/// Bytes of an uncompressed point of P-521.
const POINT: usize = 133;

/// Defines the interface. Written by hand, as that of version 0.1.0 is.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut crypto = linker.instance(name::CRYPTO_ADDITIONS)?;
    crypto.func_wrap(
        "verify-es512",
        |mut store: StoreContextMut<'_, HostState>, (key, message, signature): (PublicKey, Bytes, Bytes)| {
            store.data_mut().charge()?;
            Ok((verify_es512(&key, message.as_le_slice(&store), signature.as_le_slice(&store)),))
        },
    )?;
    crypto.func_wrap("random", |mut store: StoreContextMut<'_, HostState>, (length,): (u32,)| {
        store.data_mut().marked(Mark::Random)?;
        if length > RANDOM {
            return Err(wasmtime::Error::msg(format!("at most {RANDOM} random bytes are given at once")));
        }
        let mut bytes = vec![0; length as usize];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        Ok((bytes,))
    })?;
    crypto.func_wrap(
        "seal",
        |mut store: StoreContextMut<'_, HostState>, (context, message): (Bytes, Bytes)| {
            store.data_mut().marked(Mark::Random)?;
            let sealer = &store.data().rights.sealer;
            Ok((sealer.seal(context.as_le_slice(&store), message.as_le_slice(&store)),))
        },
    )?;
    crypto.func_wrap(
        "open",
        |mut store: StoreContextMut<'_, HostState>, (context, sealed): (Bytes, Bytes)| {
            store.data_mut().charge()?;
            let sealer = &store.data().rights.sealer;
            Ok((sealer.open(context.as_le_slice(&store), sealed.as_le_slice(&store)),))
        },
    )
}

/// Whether an ES512 signature is valid.
fn verify_es512(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<bool, String> {
    let key = match key {
        PublicKey::Ec(point) if point.len() == POINT && point.first() == Some(&4) => point,
        PublicKey::Ec(_) => {
            return Err(format!("an uncompressed P-521 point has {POINT} bytes and begins with 4"));
        }
        PublicKey::Spki(document) => document,
        PublicKey::Rsa(_) | PublicKey::Ed25519(_) => {
            return Err("ES512 is verified with a key of the kind `ec` or `spki`".to_owned());
        }
    };
    let parsed = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, key)
        .parse()
        .map_err(|_| "the key is malformed or not on P-521".to_owned())?;
    Ok(parsed.verify_sig(message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    };

    use super::*;
    use crate::bindings::witgate::plugin::crypto::RsaKey;

    #[test]
    fn es512_verifies_its_own_and_nothing_else() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let document: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let signature = pair.sign(&SystemRandom::new(), b"signed").unwrap();
        for key in [PublicKey::Ec(point.clone()), PublicKey::Spki(document.as_ref().to_vec())] {
            assert_eq!(verify_es512(&key, b"signed", signature.as_ref()), Ok(true));
            assert_eq!(verify_es512(&key, b"other", signature.as_ref()), Ok(false));
            assert_eq!(verify_es512(&key, b"signed", &signature.as_ref()[1..]), Ok(false));
        }
        let smaller = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let document: PublicKeyX509Der<'_> = smaller.public_key().as_der().unwrap();
        for key in [
            PublicKey::Ec(smaller.public_key().as_ref().to_vec()),
            PublicKey::Spki(document.as_ref().to_vec()),
            PublicKey::Spki(vec![0x30, 3, 0]),
            PublicKey::Ec([&[4][..], &[0x11; 132]].concat()),
            PublicKey::Ec(point[1..].to_vec()),
            PublicKey::Ed25519(vec![0; 32]),
            PublicKey::Rsa(RsaKey { n: vec![0xff; 256], e: vec![1, 0, 1] }),
        ] {
            assert!(verify_es512(&key, b"signed", signature.as_ref()).is_err(), "{key:?}");
        }
    }
}
