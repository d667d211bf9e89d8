//! The URL of a stored response, as clients ask for it: what it is purged and invalidated by.

use std::hash::{DefaultHasher, Hash, Hasher};

use http::HeaderMap;
use http::header::{CONTENT_LOCATION, HeaderName, LOCATION};

/// A URL in normal form: host in lower case, without the default port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// `http` or `https`.
    scheme: &'static str,
    /// Host and port.
    authority: String,
    /// Path and query.
    target: String,
}

impl Url {
    pub(crate) fn new(scheme: &'static str, authority: &str, target: &str) -> Url {
        let default = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
        Url { scheme, authority, target: target.to_owned() }
    }

    /// Reads what an operator wrote. Without a path, `/` is meant.
    pub(crate) fn read(text: &str) -> Option<Url> {
        let (scheme, rest) = match text.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
            _ => return None,
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        (!authority.is_empty()).then(|| Url::new(scheme, authority, &target))
    }

    /// Whether this URL begins with another one.
    pub(crate) fn begins_with(&self, prefix: &Url) -> bool {
        self.scheme == prefix.scheme
            && self.authority == prefix.authority
            && self.target.starts_with(&prefix.target)
    }

    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.scheme, &self.authority, &self.target).hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn size(&self) -> usize {
        self.authority.len() + self.target.len() + size_of::<Url>()
    }

    /// The URLs of the same origin that a response to an unsafe request names in `Location` and `Content-Location`
    /// (RFC 9111 section 4.4).
    pub(crate) fn named_by(&self, headers: &HeaderMap) -> impl Iterator<Item = Url> {
        [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name: HeaderName| {
            let named = self.resolve(headers.get(name)?.to_str().ok()?)?;
            (named.scheme == self.scheme && named.authority == self.authority).then_some(named)
        })
    }

    /// A reference relative to this URL (RFC 3986 section 5.2).
    fn resolve(&self, reference: &str) -> Option<Url> {
        let reference = reference.split('#').next().unwrap_or_default();
        if reference.contains("://") {
            return Url::read(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Url::read(&format!("{}://{rest}", self.scheme));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = match reference.bytes().next() {
            None => self.target.clone(),
            Some(b'/') => without_dots(reference),
            Some(b'?') => format!("{path}{reference}"),
            Some(_) => without_dots(&format!(
                "{}/{reference}",
                path.rsplit_once('/').map_or("", |(folder, _)| folder)
            )),
        };
        Some(Url { target, ..self.clone() })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}://{}{}", self.scheme, self.authority, self.target)
    }
}

/// Removes the segments `.` and `..` from a path (RFC 3986 section 5.2.4).
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(segment),
        }
    }
    let path = format!("/{}", segments.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_compared_in_normal_form() {
        let read = |text| Url::read(text).map(|url| url.to_string());
        for (written, normal) in [
            ("HTTP://A.Example:80/x?y", "http://a.example/x?y"),
            ("https://a.example:443", "https://a.example/"),
            ("https://a.example:80/#top", "https://a.example:80/"),
            ("http://a.example?x", "http://a.example/?x"),
        ] {
            assert_eq!(read(written).as_deref(), Some(normal), "{written}");
        }
        for wrong in ["/x", "a.example/x", "ftp://a.example/", "http:///x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let images = Url::read("http://a.example/images/").unwrap();
        assert!(Url::read("http://a.example/images/a?b").unwrap().begins_with(&images));
        for other in ["http://a.example/image", "https://a.example/images/a", "http://b.example/images/"] {
            assert!(!Url::read(other).unwrap().begins_with(&images), "{other}");
        }
    }

    #[test]
    fn only_urls_of_the_same_origin_are_named() {
        let named = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            let found = Url::read("http://a.example/a/b?c").unwrap().named_by(&headers).next();
            found.map(|url| url.to_string())
        };
        for (location, url) in [
            ("/x", "http://a.example/x"),
            ("x?y", "http://a.example/a/x?y"),
            ("../x/./y/..", "http://a.example/x/"),
            ("?d", "http://a.example/a/b?d"),
            ("", "http://a.example/a/b?c"),
            ("//A.example/x", "http://a.example/x"),
            ("http://a.example:80/x#f", "http://a.example/x"),
        ] {
            assert_eq!(named(location).as_deref(), Some(url), "{location}");
        }
        for foreign in ["https://a.example/x", "http://b.example/x", "//b.example/x"] {
            assert_eq!(named(foreign), None, "{foreign}");
        }
    }
}
