//! A token in its compact form (RFC 7515 section 7.1), taken apart.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::algorithm::Algorithm;
use crate::refusal::Refusal;

/// A token whose signature is not yet checked.
pub(crate) struct Token<'a> {
    /// What was signed: header and payload, as they came.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
    pub(crate) heading: Rc<Heading>,
    payload: &'a [u8],
}

/// What the header of a token says of its key.
pub(crate) struct Heading {
    /// What the token claims to be signed with. It chooses nothing, it is only compared.
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
}

/// The longest header that is remembered, in characters.
const LONGEST: usize = 512;

/// The header that was read last, with its text. An issuer writes the same header into every token, so most headers need not
/// be read again.
#[derive(Default)]
pub(crate) struct LastHeading(RefCell<Option<(Vec<u8>, Rc<Heading>)>>);

impl LastHeading {
    fn read(&self, header: &[u8]) -> Result<Rc<Heading>, Refusal> {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((text, heading)) if text == header => Ok(Rc::clone(heading)),
            _ => {
                let heading = Rc::new(Heading::parse(header)?);
                if header.len() <= LONGEST {
                    *last = Some((header.to_vec(), Rc::clone(&heading)));
                }
                Ok(heading)
            }
        }
    }
}

/// The header (RFC 7515 section 4). A member that comes twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl Heading {
    fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let header: Header = serde_json::from_slice(&decoded(text)?)
            .map_err(|_| Refusal::Invalid("the header is malformed"))?;
        // RFC 7515 section 4.1.11: what must be understood and is not.
        if header.crit.is_some() {
            return Err(Refusal::Invalid("the header has critical extensions"));
        }
        let algorithm = Algorithm::named(&header.alg)
            .ok_or(Refusal::Invalid("the algorithm is none of those accepted"))?;
        Ok(Self { algorithm, kid: header.kid })
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart and reads its header, unless it is the `last` one that was read.
    ///
    /// # Errors
    /// It has not three parts, as an encrypted token (RFC 7516), or its header is malformed or asks for what is not supported.
    pub(crate) fn parse(text: &'a [u8], last: &LastHeading) -> Result<Self, Refusal> {
        let mut parts = text.split(|byte| *byte == b'.');
        let (header, payload, signature) = match [(); 4].map(|()| parts.next()) {
            [Some(header), Some(payload), Some(signature), None] => (header, payload, signature),
            [.., Some(_)] => return Err(Refusal::Invalid("an encrypted token, or none at all")),
            _ => return Err(Refusal::Invalid("not a token")),
        };
        let heading = last.read(header)?;
        let signed = &text[..header.len() + 1 + payload.len()];
        Ok(Self { signed, signature: decoded(signature)?, heading, payload })
    }

    /// The claims, as JSON. Only for tokens whose signature is good.
    pub(crate) fn payload(&self) -> Result<String, Refusal> {
        String::from_utf8(decoded(self.payload)?).map_err(|_| Refusal::Invalid("the claims are malformed"))
    }
}

fn decoded(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Invalid("a part is not base64url"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &str) -> String {
        URL_SAFE_NO_PAD.encode(json)
    }

    fn kid(last: &LastHeading, header: &str) -> Option<String> {
        let token = format!("{header}.e30.c2ln");
        let token = Token::parse(token.as_bytes(), last).expect("the token has a form");
        assert_eq!((token.signed, token.payload), (format!("{header}.e30").as_bytes(), &b"e30"[..]));
        token.heading.kid.clone()
    }

    #[test]
    fn a_header_that_only_begins_like_the_last_is_read_anew() {
        let last = LastHeading::default();
        let long = header(r#"{"alg":"HS256","typ":"JWT","kid":"one"}"#);
        let others = [
            header(r#"{"alg":"HS256","typ":"JWT","kid":"onE"}"#),
            header(r#"{"alg":"HS256","kid":"two","typ":"JWT"}"#),
            header(r#"{"alg":"HS256"}"#),
        ];
        for other in others {
            let named = kid(&LastHeading::default(), &other);
            assert_eq!(kid(&last, &long).as_deref(), Some("one"));
            assert_eq!(kid(&last, &long).as_deref(), Some("one"), "by what was read last");
            assert_eq!(kid(&last, &other), named);
            assert_eq!(kid(&last, &other), named, "by what was read last");
        }
        assert_eq!(kid(&last, &long).as_deref(), Some("one"));
        let four_parts = format!("{long}.e30.e30.c2ln");
        for last in [&last, &LastHeading::default()] {
            assert!(Token::parse(four_parts.as_bytes(), last).is_err(), "whatever was read before");
        }
        for cut in 0..long.len() {
            let shorter = Token::parse(format!("{}.e30.c2ln", &long[..cut]).as_bytes(), &last)
                .map(|token| token.heading);
            assert!(shorter.is_err(), "{cut} characters of the header are none");
        }
    }
}
