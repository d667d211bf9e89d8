//! Paths: patterns of routes, prefixes to remove, and templates.

use std::fmt::Write as _;

use super::Scalar;
use crate::model::PathMatch;

/// What a route's `path` matches: `/users`, `/users/{id}`, `/files/{*rest}`, or a prefix, `/api/*`.
///
/// Literal parts are normalised to the form in which the gateway compares paths (RFC 3986 section 6.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPattern {
    /// What it matches.
    pub(crate) matches: PathMatch,
    /// The names of its parameters.
    pub(crate) parameters: Vec<String>,
}

/// What is said of a path that is written as a regular expression, as other servers have them.
const NO_REGEX: &str = "regular expressions are not supported: a segment may be a parameter, `{name}`, and the end `{*rest}` or `*`";

impl Scalar for PathPattern {
    const FORMAT: &'static str = "witgate-path";
    const WHAT: &'static str = "a path such as \"/users/{id}\", \"/files/{*rest}\" or \"/api/*\"";

    fn read(text: &str) -> Result<Self, String> {
        if let Some(prefix) = text.strip_suffix("/*") {
            let PathPrefix(prefix) = PathPrefix::read(if prefix.is_empty() { "/" } else { prefix })?;
            return Ok(Self { matches: PathMatch::Prefix(prefix), parameters: Vec::new() });
        }
        if text.starts_with(['~', '^']) {
            return Err(NO_REGEX.to_owned());
        }
        let rest = text.strip_prefix('/').ok_or("it does not begin with `/`")?;
        let (mut pattern, mut parameters) = (String::new(), Vec::new());
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            pattern.push('/');
            let last = segments.peek().is_none();
            match parameter(segment)? {
                Some((name, tail)) => {
                    if tail && !last {
                        return Err(format!(
                            "`{segment}` stands for the rest of the path and must come last"
                        ));
                    }
                    if parameters.iter().any(|known| known == name) {
                        return Err(format!("the parameter `{name}` is in it twice"));
                    }
                    parameters.push(name.to_owned());
                    pattern.push_str(segment);
                }
                None if segment.is_empty() && !last => {
                    return Err("it has an empty segment (`//`)".to_owned());
                }
                None => literal(segment, &mut pattern)?,
            }
        }
        Ok(Self { matches: PathMatch::Pattern(pattern), parameters })
    }
}

/// A prefix that ends at a segment boundary, without a slash at its end except for `/` itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPrefix(pub(crate) String);

impl Scalar for PathPrefix {
    const FORMAT: &'static str = "witgate-path-prefix";
    const WHAT: &'static str = "a path prefix such as \"/api\"";

    fn read(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or("it does not begin with `/`")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut prefix = String::new();
        for segment in rest.split('/').filter(|_| !rest.is_empty()) {
            if segment.is_empty() {
                return Err("it has an empty segment (`//`)".to_owned());
            }
            if parameter(segment)?.is_some() {
                return Err(format!(
                    "a prefix has no parameters such as `{segment}`; end the path with `{{*rest}}` instead"
                ));
            }
            prefix.push('/');
            literal(segment, &mut prefix)?;
        }
        Ok(Self(if prefix.is_empty() { "/".to_owned() } else { prefix }))
    }
}

/// A path with `{name}` for parameters of the route's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    /// The names it uses.
    pub(crate) names: Vec<String>,
}

impl Scalar for PathTemplate {
    const FORMAT: &'static str = "witgate-path-template";
    const WHAT: &'static str = "a path such as \"/v2/users/{id}\"";

    fn read(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("it does not begin with `/`".to_owned());
        }
        Ok(Self { names: template_names(text)? })
    }
}

/// The target of a redirect: a path or a URL, with `{name}` for parameters, `{path}`, `{query}` (`?` and the
/// query, or nothing) and `{host}` (without port).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// The names it uses.
    pub(crate) names: Vec<String>,
}

impl Scalar for Location {
    const FORMAT: &'static str = "witgate-location";
    const WHAT: &'static str = "a path or URL such as \"/login\" or \"https://www.example.com{path}\"";

    fn read(text: &str) -> Result<Self, String> {
        if !["/", "http://", "https://"].iter().any(|start| text.starts_with(start)) {
            return Err("it begins with neither `/` nor `http://` nor `https://`".to_owned());
        }
        Ok(Self { names: template_names(text)? })
    }
}

/// The parameter that a segment stands for, and whether it takes the rest of the path; `None` if the segment is
/// literal.
fn parameter(segment: &str) -> Result<Option<(&str, bool)>, String> {
    let Some(inside) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return match segment {
            _ if segment.contains(['{', '}']) => {
                Err(format!("in `{segment}`, a parameter must be the whole segment, as in `/{{id}}/`"))
            }
            _ if segment.contains('*') => Err("`*` goes only to the end, as `/*` or `/{*rest}`".to_owned()),
            _ => Ok(None),
        };
    };
    let (name, tail) = inside.strip_prefix('*').map_or((inside, false), |name| (name, true));
    check_parameter(name)?;
    Ok(Some((name, tail)))
}

fn check_parameter(name: &str) -> Result<(), String> {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if letters && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        Ok(())
    } else {
        Err(format!("`{name}` is not a parameter name: a letter, then letters, digits and `_`"))
    }
}

/// Appends a literal segment in normal form: encodes what must be encoded, and nothing else.
fn literal(segment: &str, into: &mut String) -> Result<(), String> {
    let bytes = segment.as_bytes();
    let mut at = 0;
    let begin = into.len();
    while at < bytes.len() {
        let (byte, encoded) = match bytes[at] {
            b'%' => (decode(&segment[at..])?, true),
            byte => (byte, false),
        };
        at += if encoded { 3 } else { 1 };
        match byte {
            0..=31 | 127 => return Err("it has a control character in it".to_owned()),
            b'?' | b'#' | b' ' | b'\\' if !encoded => {
                return Err(format!("it has {:?} in it", char::from(byte)));
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => into.push(char::from(byte)),
            _ if !encoded && b"!$&'()*+,;=:@".contains(&byte) => into.push(char::from(byte)),
            _ => write!(into, "%{byte:02X}").expect("a string can be written to"),
        }
    }
    match &into[begin..] {
        "." | ".." => Err("`.` and `..` never match: paths are normalized before".to_owned()),
        _ => Ok(()),
    }
}

fn decode(text: &str) -> Result<u8, String> {
    let digits = text.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    byte.ok_or_else(|| "`%` is not followed by two hexadecimal digits".to_owned())
}

fn template_names(text: &str) -> Result<Vec<String>, String> {
    if let Some(letter) = text.chars().find(|letter| letter.is_control() || *letter == ' ') {
        return Err(format!("it has {letter:?} in it"));
    }
    let (mut names, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("a brace is not closed")?;
        if before.contains('}') {
            return Err("a brace is closed that was not opened".to_owned());
        }
        check_parameter(name)?;
        names.push(name.to_owned());
        rest = after;
    }
    if rest.contains('}') { Err("a brace is closed that was not opened".to_owned()) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let cases = [
            ("/", Ok("/")),
            ("/users/{id}", Ok("/users/{id}")),
            ("/files/{*rest}", Ok("/files/{*rest}")),
            ("/users/", Ok("/users/")),
            ("/caf\u{e9}/%7euser/%c3%a9", Ok("/caf%C3%A9/~user/%C3%A9")),
            ("users", Err("it does not begin with `/`")),
            ("~ ^/api/(.*)$", Err(NO_REGEX)),
            ("~* \\.png$", Err(NO_REGEX)),
            ("^/users/[0-9]+$", Err(NO_REGEX)),
            ("/a//b", Err("it has an empty segment (`//`)")),
            ("/a/../b", Err("`.` and `..` never match: paths are normalized before")),
            ("/a/%2e%2E/b", Err("`.` and `..` never match: paths are normalized before")),
            ("/a?x=1", Err("it has '?' in it")),
            ("/a/*.png", Err("`*` goes only to the end, as `/*` or `/{*rest}`")),
            ("/{id}.png", Err("in `{id}.png`, a parameter must be the whole segment, as in `/{id}/`")),
            ("/{id}/{id}", Err("the parameter `id` is in it twice")),
            ("/{*rest}/x", Err("`{*rest}` stands for the rest of the path and must come last")),
            ("/{}", Err("`` is not a parameter name: a letter, then letters, digits and `_`")),
            ("/%zz", Err("`%` is not followed by two hexadecimal digits")),
            ("/%\u{e9}", Err("`%` is not followed by two hexadecimal digits")),
            ("/%00", Err("it has a control character in it")),
        ];
        for (text, expected) in cases {
            let read = PathPattern::read(text).map(|pattern| pattern.matches);
            let expected = expected.map(|pattern: &str| PathMatch::Pattern(pattern.to_owned()));
            assert_eq!(read, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_star_at_the_end_is_a_prefix() {
        for (text, prefix) in [("/api/*", "/api"), ("/*", "/"), ("/a/b/*", "/a/b")] {
            let read = PathPattern::read(text).map(|pattern| pattern.matches);
            assert_eq!(read, Ok(PathMatch::Prefix(prefix.to_owned())), "{text}");
        }
        assert_eq!(PathPrefix::read("/api/"), Ok(PathPrefix("/api".to_owned())));
        assert!(PathPattern::read("/users/{id}/*").is_err_and(|why| why.contains("{*rest}")));
    }

    #[test]
    fn templates_name_their_parameters() {
        assert_eq!(
            PathTemplate::read("/v2/{id}/{x}").map(|template| template.names),
            Ok(vec!["id".to_owned(), "x".to_owned()])
        );
        assert!(PathTemplate::read("/v2/{id").is_err());
        assert!(PathTemplate::read("/v2/id}").is_err());
        assert!(PathTemplate::read("v2").is_err());
        assert!(Location::read("https://www.example.com{path}").is_ok());
        assert!(Location::read("javascript:alert(1)").is_err());
        assert!(Location::read("/a\r\nset-cookie: x").is_err());
    }
}
