//! JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use witgate_sdk::crypto::{PublicKey, RsaKey};

use crate::algorithm::Algorithm;
use crate::keys::{Key, Material};

/// The members of a JWK that are used here; all others are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a key. `expected` is the algorithm that the settings give for the key; the key's own `alg` must agree
/// with it.
pub(crate) fn read(jwk: Value, expected: Option<Algorithm>) -> Result<Key, String> {
    let jwk = Jwk::deserialize(jwk).map_err(|error| error.to_string())?;
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Err("its `use` is not `sig`".to_owned());
    }
    if jwk.key_ops.as_ref().is_some_and(|operations| operations.iter().all(|operation| operation != "verify"))
    {
        return Err("its `key_ops` do not have `verify`".to_owned());
    }
    let own = match &jwk.alg {
        Some(name) => {
            Some(Algorithm::named(name).ok_or_else(|| format!("its `alg` {name} is not supported"))?)
        }
        None => jwk.by_curve(),
    };
    let algorithm = match (own, expected) {
        (Some(own), Some(expected)) if own != expected => {
            return Err("its algorithm differs from the one in the settings".to_owned());
        }
        (own, expected) => own.or(expected).ok_or("it does not name its algorithm: set `alg`")?,
    };
    let material = jwk.material()?;
    Key::new(jwk.kid, algorithm, material)
}

impl Jwk {
    /// The algorithm of a curve. Each curve has only one, so keys on it need not name it.
    fn by_curve(&self) -> Option<Algorithm> {
        match (self.kty.as_str(), self.crv.as_deref()?) {
            ("EC", "P-256") => Some(Algorithm::Es256),
            ("EC", "P-384") => Some(Algorithm::Es384),
            ("OKP", "Ed25519") => Some(Algorithm::EdDsa),
            _ => None,
        }
    }

    fn material(&self) -> Result<Material, String> {
        let curve = self.crv.as_deref().unwrap_or_default();
        Ok(match self.kty.as_str() {
            "oct" => Material::Secret(decoded("k", &self.k)?),
            "RSA" => Material::Public(PublicKey::Rsa(RsaKey {
                n: without_leading_zeros(decoded("n", &self.n)?),
                e: without_leading_zeros(decoded("e", &self.e)?),
            })),
            "EC" if matches!(curve, "P-256" | "P-384") => {
                let (x, y) = (decoded("x", &self.x)?, decoded("y", &self.y)?);
                // RFC 7518 section 6.2.1.2: a coordinate must have its full length. Otherwise the boundary between
                // the coordinates would be ambiguous.
                let size = if curve == "P-256" { 32 } else { 48 };
                if x.len() != size || y.len() != size {
                    return Err(format!("a coordinate on {curve} has {size} bytes"));
                }
                Material::Public(PublicKey::Ec([&[4], &x[..], &y[..]].concat()))
            }
            "OKP" if curve == "Ed25519" => Material::Public(PublicKey::Ed25519(decoded("x", &self.x)?)),
            kind => return Err(format!("keys of kind {kind} {curve} are not supported")),
        })
    }
}

fn decoded(member: &str, value: &Option<String>) -> Result<Vec<u8>, String> {
    let value = value.as_deref().ok_or_else(|| format!("it has no `{member}`"))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| format!("its `{member}` is not base64url"))
}

/// Removes leading zeros, which some issuers write although RFC 7518 section 6.3.1.1 forbids them.
fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}
