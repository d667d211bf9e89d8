//! The header `Set-Cookie` (RFC 6265 section 4.1).

use std::fmt::Write;
use std::time::Duration;

/// A cookie that is set, for `Set-Cookie`. Unless told otherwise it is `Secure`, `HttpOnly` and `SameSite=Lax`, has the path
/// `/`, and ends with the browser's session.
///
/// ```
/// use std::time::Duration;
/// use witgate_sdk::{Response, SetCookie};
///
/// let cookie = SetCookie::new("session", "4711").max_age(Duration::from_secs(600));
/// let response = Response::new(204).with_header("set-cookie", cookie);
/// let expected = "session=4711; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax";
/// assert_eq!(response.header("set-cookie"), Some(expected));
/// ```
#[derive(Clone, Debug)]
pub struct SetCookie {
    name: String,
    value: String,
    path: String,
    domain: Option<String>,
    max_age: Option<u64>,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
}

/// With which requests of other sites a cookie is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// Only if the user follows a link.
    Lax,
    /// With all; the cookie must be `Secure`.
    None,
}

impl SetCookie {
    /// A cookie.
    ///
    /// # Panics
    /// The name is not a token, or the value has a character that a cookie cannot have: white space, `"`, `,`, `;`, `\`, control
    /// characters and everything beyond ASCII. Encode other values, e.g. by [`encoding::base64_url`](crate::encoding::base64_url).
    #[must_use]
    #[track_caller]
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert!(!name.is_empty() && name.bytes().all(is_token), "`{name}` is not the name of a cookie");
        let is_octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        assert!(value.bytes().all(is_octet), "the value of the cookie `{name}` has to be encoded");
        Self {
            name,
            value,
            path: "/".to_owned(),
            domain: None,
            max_age: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }

    /// Makes the browser forget the cookie of this name.
    #[must_use]
    #[track_caller]
    pub fn removed(name: impl Into<String>) -> Self {
        Self::new(name, "").max_age(Duration::ZERO)
    }

    /// The paths that the cookie is sent with; the default is `/`.
    ///
    /// # Panics
    /// It contains `;` or a control character.
    #[must_use]
    #[track_caller]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = attribute(path.into());
        self
    }

    /// The host, with all below it, that the cookie is sent to; without it only the host that has set it.
    ///
    /// # Panics
    /// As [`path`](Self::path).
    #[must_use]
    #[track_caller]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(attribute(domain.into()));
        self
    }

    /// How long the cookie is kept, in whole seconds.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = Some(time.as_secs());
        self
    }

    /// Sends the cookie over connections without TLS, too: for tests on a machine of one's own.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.secure = false;
        self
    }

    /// Lets scripts of the page read the cookie.
    #[must_use]
    pub fn readable_by_scripts(mut self) -> Self {
        self.http_only = false;
        self
    }

    /// With which requests of other sites it is sent; the default is [`SameSite::Lax`].
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }
}

#[track_caller]
fn attribute(value: String) -> String {
    let fits = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b';';
    assert!(value.bytes().all(fits), "an attribute of a cookie contains no `;` and no control characters");
    value
}

impl From<SetCookie> for Vec<u8> {
    fn from(cookie: SetCookie) -> Self {
        let mut text = format!("{}={}; Path={}", cookie.name, cookie.value, cookie.path);
        if let Some(domain) = cookie.domain {
            let _ = write!(text, "; Domain={domain}");
        }
        if let Some(seconds) = cookie.max_age {
            let _ = write!(text, "; Max-Age={seconds}");
        }
        text.push_str(if cookie.secure { "; Secure" } else { "" });
        text.push_str(if cookie.http_only { "; HttpOnly" } else { "" });
        text.push_str(match cookie.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_is_written() {
        let cookie =
            SetCookie::new("a", "b").path("/x").domain("example.com").max_age(Duration::from_millis(1999));
        let text = Vec::from(cookie.insecure().readable_by_scripts().same_site(SameSite::Strict));
        assert_eq!(text, b"a=b; Path=/x; Domain=example.com; Max-Age=1; SameSite=Strict");
        let removed = Vec::from(SetCookie::removed("a"));
        assert_eq!(removed, b"a=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn nothing_ends_the_value_or_an_attribute_early() {
        for value in ["a;b", "a b", "a,b", "a\"b", "a\\b", "a\nb", "é"] {
            assert!(std::panic::catch_unwind(|| SetCookie::new("a", value)).is_err(), "{value}");
            assert!(std::panic::catch_unwind(|| SetCookie::new(value, "a")).is_err(), "{value}");
        }
        for attribute in ["/;Secure", "/\n", "/é"] {
            assert!(
                std::panic::catch_unwind(|| SetCookie::new("a", "b").path(attribute)).is_err(),
                "{attribute}"
            );
            assert!(std::panic::catch_unwind(|| SetCookie::new("a", "b").domain(attribute)).is_err());
        }
    }
}
