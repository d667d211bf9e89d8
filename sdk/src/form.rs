//! Forms: `application/x-www-form-urlencoded`, as browsers and OAuth send them.

use std::borrow::Cow;

use crate::contracts::by_body::Body;
use crate::request::percent_decoded;

/// The type of a form, for `Content-Type`.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// The fields of a form, in their order.
///
/// ```
/// use witgate_sdk::Form;
///
/// let form = Form::new().with("token", "a b&c").with("hint", "é");
/// assert_eq!(form.to_string(), "token=a+b%26c&hint=%C3%A9");
///
/// let form = Form::parse("scope=read&scope=write&empty").unwrap();
/// assert_eq!(form.values("scope").collect::<Vec<_>>(), ["read", "write"]);
/// assert_eq!(form.only("scope"), None);
/// assert_eq!(form.only("empty"), Some(""));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    /// A form without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields of a body or a query; `None` if one is not UTF-8. A `%` that begins no byte stands for itself.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let fields = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decoded(name)?, percent_decoded(value)?))
        });
        fields.collect::<Option<_>>().map(Self)
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// The first value of a field. Where a second value would be an attack, use [`only`](Self::only).
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// The value of a field that was sent exactly once.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// All values of a field.
    pub fn values<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl std::fmt::Display for Form<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { "&" })?;
            encoded(formatter, name)?;
            formatter.write_str("=")?;
            encoded(formatter, value)?;
        }
        Ok(())
    }
}

/// One name or value as it stands in a form (WHATWG URL, section 5.2); client credentials of OAuth are written so, too.
///
/// ```
/// assert_eq!(witgate_sdk::form_encoded("a:b c"), "a%3Ab+c");
/// ```
#[must_use]
pub fn form_encoded(text: &str) -> String {
    struct Encoded<'t>(&'t str);
    impl std::fmt::Display for Encoded<'_> {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            encoded(formatter, self.0)
        }
    }
    Encoded(text).to_string()
}

fn encoded(formatter: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    for byte in text.bytes() {
        match byte {
            b' ' => formatter.write_str("+")?,
            b'*' | b'-' | b'.' | b'_' => write!(formatter, "{}", char::from(byte))?,
            _ if byte.is_ascii_alphanumeric() => write!(formatter, "{}", char::from(byte))?,
            _ => write!(formatter, "%{byte:02X}")?,
        }
    }
    Ok(())
}

impl Body {
    /// The fields of a body that is a form; `None` if it is not UTF-8. Check `Content-Type` first.
    #[must_use]
    pub fn form(&self) -> Option<Form<'_>> {
        Form::parse(self.text()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let odd = "a=b&c+d %41%zz\u{e9}\0\n*-._~";
        let written = Form::new().with(odd, odd).with("", "x").to_string();
        let read = Form::parse(&written).expect("it is UTF-8");
        assert_eq!(read.iter().collect::<Vec<_>>(), [(odd, odd), ("", "x")]);
    }

    #[test]
    fn a_field_that_is_not_text_refuses_the_form() {
        assert_eq!(Form::parse("a=%ff"), None);
        assert_eq!(Body::whole(b"a=\xff".to_vec()).form(), None);
        assert_eq!(Form::parse("a=100%&&b").expect("a lone % stands for itself").only("a"), Some("100%"));
    }
}
