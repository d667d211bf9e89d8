//! A token in its compact form (RFC 7515 section 7.1), taken apart.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::refusal::Refusal;

/// A token whose signature is not yet checked.
pub(crate) struct Token<'a> {
    /// What was signed: header and payload, as they came.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
    /// What the token claims to be signed with. It chooses nothing, it is only compared.
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    payload: &'a str,
}

/// The header (RFC 7515 section 4). A member that comes twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> Token<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::Invalid("not a token"))?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Invalid("not a token"))?;
        if payload.contains('.') {
            return Err(Refusal::Invalid("an encrypted token, or none at all"));
        }
        let header: Header = serde_json::from_slice(&decoded(header)?)
            .map_err(|_| Refusal::Invalid("the header is malformed"))?;
        // RFC 7515 section 4.1.11: what must be understood and is not.
        if header.crit.is_some() {
            return Err(Refusal::Invalid("the header has critical extensions"));
        }
        let algorithm = Algorithm::named(&header.alg)
            .ok_or(Refusal::Invalid("the algorithm is none of those accepted"))?;
        Ok(Self { signed, signature: decoded(signature)?, algorithm, kid: header.kid, payload })
    }

    /// The claims. Only for tokens whose signature is good.
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, Refusal> {
        serde_json::from_slice(&decoded(self.payload)?)
            .map_err(|_| Refusal::Invalid("the claims are malformed"))
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Invalid("a part is not base64url"))
}
