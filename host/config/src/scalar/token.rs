//! Names: of the configuration's objects, of headers, of methods.

use super::Scalar;

/// The name of a listener, an upstream, a plugin, a binding or a store space.
///
/// It becomes a label of metrics, part of a file name and an argument of commands: hence the narrow alphabet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl Scalar for Name {
    const FORMAT: &'static str = "witgate-name";
    const WHAT: &'static str = "a name such as \"users-v1\"";

    fn read(text: &str) -> Result<Self, String> {
        let letters =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !letters || !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Err(
                "it begins with a letter or digit and goes on with letters, digits, `-`, `_` and `.`"
                    .to_owned(),
            );
        }
        if text.len() > 64 {
            Err("it has at most 64 characters".to_owned())
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// A header name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(pub String);

impl Scalar for HeaderName {
    const FORMAT: &'static str = "witgate-header-name";
    const WHAT: &'static str = "a header name such as \"x-auth-subject\"";

    fn read(text: &str) -> Result<Self, String> {
        check_token(text)?;
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// A request method. Methods are case-sensitive (RFC 9110 section 9.1), and those in use are in upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method(pub String);

impl Scalar for Method {
    const FORMAT: &'static str = "witgate-method";
    const WHAT: &'static str = "a method such as \"GET\"";

    fn read(text: &str) -> Result<Self, String> {
        check_token(text)?;
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(format!("methods are case-sensitive; write \"{}\"", text.to_ascii_uppercase()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Checks a token (RFC 9110 section 5.6.2).
fn check_token(text: &str) -> Result<(), String> {
    let other =
        text.chars().find(|letter| !letter.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(*letter));
    match other {
        _ if text.is_empty() => Err("it is empty".to_owned()),
        Some(letter) => Err(format!("{letter:?} cannot be in it")),
        None if text.len() > 256 => Err("it has at most 256 characters".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_a_narrow_alphabet() {
        assert_eq!(Name::read("users-v1.eu_2"), Ok(Name("users-v1.eu_2".to_owned())));
        for wrong in ["", "-users", ".users", "us ers", "us/ers", "\u{fc}sers", &"u".repeat(65)] {
            assert!(Name::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_folded_and_methods_are_not() {
        assert_eq!(HeaderName::read("X-Auth"), Ok(HeaderName("x-auth".to_owned())));
        assert_eq!(HeaderName::read("x auth"), Err("' ' cannot be in it".to_owned()));
        assert_eq!(HeaderName::read(""), Err("it is empty".to_owned()));
        assert_eq!(Method::read("GET"), Ok(Method("GET".to_owned())));
        assert_eq!(Method::read("get"), Err("methods are case-sensitive; write \"GET\"".to_owned()));
    }
}
