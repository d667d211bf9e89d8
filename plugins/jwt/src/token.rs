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
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
    pub(crate) heading: Rc<Heading>,
    payload: &'a str,
}

/// What the header of a token says of its key.
pub(crate) struct Heading {
    /// What the token claims to be signed with. It chooses nothing, it is only compared.
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
}

/// The longest header that is kept, in characters.
const KEPT: usize = 512;

/// The header that was read last, beside its text: an issuer writes the same one into token after token, and reading it
/// takes longer than reading the claims.
#[derive(Default)]
pub(crate) struct LastHeading(RefCell<Option<(String, Rc<Heading>)>>);

impl LastHeading {
    /// What a token begins with, if that is the header that was read last, and how long it is.
    fn begins(&self, token: &str) -> Option<(usize, Rc<Heading>)> {
        let last = self.0.borrow();
        let (header, heading) = last.as_ref()?;
        (begins_with(token, header) && token.as_bytes().get(header.len()) == Some(&b'.'))
            .then(|| (header.len(), Rc::clone(heading)))
    }

    fn read(&self, text: &str) -> Result<Rc<Heading>, Refusal> {
        let heading = Rc::new(Heading::parse(text)?);
        if text.len() <= KEPT {
            self.0.replace(Some((text.to_owned(), Rc::clone(&heading))));
        }
        Ok(heading)
    }
}

/// By words: components compare bytes one by one.
fn begins_with(text: &str, start: &str) -> bool {
    let (words, rest) = start.as_bytes().as_chunks::<8>();
    let Some(same) = text.as_bytes().get(..start.len()) else { return false };
    let (text_words, text_rest) = same.as_chunks::<8>();
    words.iter().zip(text_words).all(|(one, other)| u64::from_le_bytes(*one) == u64::from_le_bytes(*other))
        && rest.iter().zip(text_rest).all(|(one, other)| one == other)
}

/// The header (RFC 7515 section 4). A member that comes twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl Heading {
    fn parse(text: &str) -> Result<Self, Refusal> {
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
    pub(crate) fn parse(text: &'a str, last: &LastHeading) -> Result<Self, Refusal> {
        let malformed = || Refusal::Invalid("not a token");
        let known = last.begins(text);
        let (header, rest) = match &known {
            Some((length, _)) => (&text[..*length], &text[length + 1..]),
            None => text.split_once('.').ok_or_else(malformed)?,
        };
        let (payload, signature) = rest.split_once('.').ok_or_else(malformed)?;
        let signature = decoded(signature).map_err(|refusal| match signature.contains('.') {
            true => Refusal::Invalid("an encrypted token, or none at all"),
            false => refusal,
        })?;
        let heading = match known {
            Some((_, heading)) => heading,
            None => last.read(header)?,
        };
        let signed = &text[..header.len() + 1 + payload.len()];
        Ok(Self { signed, signature, heading, payload })
    }

    /// The claims, as JSON. Only for tokens whose signature is good.
    pub(crate) fn payload(&self) -> Result<String, Refusal> {
        String::from_utf8(decoded(self.payload)?).map_err(|_| Refusal::Invalid("the claims are malformed"))
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, Refusal> {
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
        let token = Token::parse(&token, last).expect("the token has a form");
        assert_eq!((token.signed, token.payload), (&*format!("{header}.e30"), "e30"));
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
        for cut in 0..long.len() {
            let shorter =
                Token::parse(&format!("{}.e30.c2ln", &long[..cut]), &last).map(|token| token.heading);
            assert!(shorter.is_err(), "{cut} characters of the header are none");
        }
    }
}
