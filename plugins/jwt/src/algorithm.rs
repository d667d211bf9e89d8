//! The signature algorithms (RFC 7518 section 3.1, RFC 8037).

use witgate_sdk::crypto::{Hash, SignatureAlgorithm};
use witgate_sdk::settings;

/// A signature algorithm, as `alg` names it. `none` is not one of them.
#[settings]
#[derive(Clone, Copy, Debug, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// The kind of key that an algorithm uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Family {
    /// A secret, for HMAC with this hash.
    Hmac(Hash),
    /// An RSA key.
    Rsa(SignatureAlgorithm),
    /// A point on a curve, with this many bytes for each coordinate.
    Ec(SignatureAlgorithm, usize),
    /// An Ed25519 key.
    Ed25519,
}

impl Algorithm {
    pub(crate) const ALL: [(&'static str, Self); 12] = [
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// The algorithm of a name; `None` if the name is unknown, which includes `none`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Self::Hs256 => Family::Hmac(Hash::Sha256),
            Self::Hs384 => Family::Hmac(Hash::Sha384),
            Self::Hs512 => Family::Hmac(Hash::Sha512),
            Self::Rs256 => Family::Rsa(SignatureAlgorithm::Rs256),
            Self::Rs384 => Family::Rsa(SignatureAlgorithm::Rs384),
            Self::Rs512 => Family::Rsa(SignatureAlgorithm::Rs512),
            Self::Ps256 => Family::Rsa(SignatureAlgorithm::Ps256),
            Self::Ps384 => Family::Rsa(SignatureAlgorithm::Ps384),
            Self::Ps512 => Family::Rsa(SignatureAlgorithm::Ps512),
            Self::Es256 => Family::Ec(SignatureAlgorithm::Es256, 32),
            Self::Es384 => Family::Ec(SignatureAlgorithm::Es384, 48),
            Self::EdDsa => Family::Ed25519,
        }
    }
}
