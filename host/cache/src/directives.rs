//! The directives of `Cache-Control`, and those of `CDN-Cache-Control`, which replace them (RFC 9213).

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use http::{HeaderMap, HeaderValue};

/// Directives for shared caches at the edge (RFC 9213 section 3.1).
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The longest lifetime that is counted with (RFC 9111 section 1.2.2).
const LONGEST: u64 = 1 << 31;

/// Directives in the order in which they were written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Directives {
    list: Vec<Directive>,
    /// Whether they are those of a targeted field, beside which `Expires` does not count (RFC 9213 section 2.2).
    pub(crate) targeted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Directive {
    /// In lower case.
    name: String,
    argument: Option<String>,
}

impl Directives {
    /// The directives of a request; `Pragma: no-cache` counts where there is no `Cache-Control` (RFC 9111 section 5.4).
    pub(crate) fn of_request(headers: &HeaderMap) -> Directives {
        if !headers.contains_key(CACHE_CONTROL) && headers.contains_key(PRAGMA) {
            return Directives::read(headers, &PRAGMA);
        }
        Directives::read(headers, &CACHE_CONTROL)
    }

    /// The directives of a response for this cache: those of `CDN-Cache-Control` if it is valid and not empty, otherwise
    /// those of `Cache-Control`.
    pub(crate) fn of_response(headers: &HeaderMap) -> Directives {
        if headers.contains_key(CDN_CACHE_CONTROL)
            && let Some(list) = targeted(headers)
            && !list.is_empty()
        {
            return Directives { list, targeted: true };
        }
        Directives::read(headers, &CACHE_CONTROL)
    }

    fn read(headers: &HeaderMap, name: &HeaderName) -> Directives {
        let mut list = Vec::new();
        for value in headers.get_all(name) {
            // What is no text may forbid to store the response.
            let value = value.to_str().unwrap_or("no-store");
            list.extend(split(value).map(directive));
        }
        Directives { list, targeted: false }
    }

    /// Whether there is a directive of this name, with or without an argument.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|directive| directive.name == name)
    }

    /// Whether there is a directive of this name that concerns the whole response: one without an argument, or with one
    /// that does not list header names.
    pub(crate) fn has_whole(&self, name: &str) -> bool {
        let mut found = self.list.iter().filter(|directive| directive.name == name);
        found.any(|directive| directive.fields().is_none())
    }

    /// The header names that the directives of this name list (`no-cache="a, b"`).
    pub(crate) fn fields(&self, name: &str) -> impl Iterator<Item = HeaderName> {
        let found = self.list.iter().filter(move |directive| directive.name == name);
        found.filter_map(Directive::fields).flatten()
    }

    /// The seconds of the first directive of this name. What is no number counts as 0, because invalid freshness
    /// information makes a response stale (RFC 9111 section 4.2.1).
    pub(crate) fn seconds(&self, name: &str) -> Option<Duration> {
        let found = self.list.iter().find(|directive| directive.name == name)?;
        Some(found.argument.as_deref().and_then(delta_seconds).unwrap_or_default())
    }

    /// As [`seconds`](Directives::seconds), for a directive whose absent argument means without limit.
    pub(crate) fn seconds_or_endless(&self, name: &str) -> Option<Duration> {
        let found = self.list.iter().find(|directive| directive.name == name)?;
        match &found.argument {
            Some(argument) => Some(delta_seconds(argument).unwrap_or_default()),
            None => Some(Duration::MAX),
        }
    }
}

impl Directive {
    /// The header names in the argument; `None` if there are none.
    fn fields(&self) -> Option<Vec<HeaderName>> {
        let names = self.argument.as_deref()?.split(',').map(str::trim);
        let names: Option<Vec<_>> = names.map(|name| name.parse().ok()).collect();
        names.filter(|names: &Vec<HeaderName>| !names.is_empty())
    }
}

/// A number of seconds (RFC 9111 section 1.2.2); larger ones count as the largest.
pub(crate) fn delta_seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(LONGEST).min(LONGEST)))
}

/// Splits a list at its commas, except for those in quoted strings. Empty elements are left out.
pub(crate) fn split(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let elements = value.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    });
    elements.map(str::trim).filter(|element| !element.is_empty())
}

/// A directive as written. White space around `=` is not allowed, so it stays part of the argument, which makes it invalid.
fn directive(element: &str) -> Directive {
    let (name, argument) = match element.split_once('=') {
        Some((name, argument)) => {
            let spaced = name.ends_with(char::is_whitespace);
            (name.trim_end(), Some(if spaced { format!(" {argument}") } else { unquoted(argument) }))
        }
        None => (element, None),
    };
    Directive { name: name.to_ascii_lowercase(), argument }
}

fn unquoted(text: &str) -> String {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_owned(),
    }
}

/// The members of `CDN-Cache-Control`, a dictionary of structured fields (RFC 9651 section 3.2). `None` if it is not valid:
/// then the field is ignored.
fn targeted(headers: &HeaderMap) -> Option<Vec<Directive>> {
    let mut list: Vec<Directive> = Vec::new();
    for value in headers.get_all(CDN_CACHE_CONTROL) {
        for member in split(value.to_str().ok()?) {
            let member = member_of_dictionary(member)?;
            // The last member of a name counts.
            list.retain(|known| known.name != member.name);
            list.push(member);
        }
    }
    Some(list)
}

fn member_of_dictionary(text: &str) -> Option<Directive> {
    // Parameters mean nothing here.
    let text = text.split(';').next().unwrap_or_default().trim_end();
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'*');
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
    if !first || !name.bytes().all(rest) {
        return None;
    }
    let argument = match value {
        None => None,
        Some("?1") => None,
        Some("?0") => return Some(Directive { name: String::new(), argument: None }),
        Some(value) if value.starts_with('"') => {
            let inner = value.strip_prefix('"')?.strip_suffix('"')?;
            // Durations are integers; a string is of the wrong type.
            (!is_duration(name)).then(|| inner.to_owned()).map(Some)?
        }
        Some(value) if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() => {
            Some(value.to_owned())
        }
        Some(value) => {
            let token =
                value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),<>[]{}@\\".contains(&byte));
            (token && !is_duration(name)).then(|| Some(value.to_owned()))?
        }
    };
    Some(Directive { name: name.to_owned(), argument })
}

fn is_duration(name: &str) -> bool {
    matches!(name, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error")
}

/// The text of a value, for lists of names; a value that is no text has none.
pub(crate) fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Directives {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Directives::of_response(&headers)
    }

    #[test]
    fn numbers_are_read_and_what_is_none_makes_stale() {
        for (value, seconds) in [
            ("max-age=3600", 3600),
            ("MAX-age=\"3600\"", 3600),
            ("max-age=003600", 3600),
            ("max-age=99999999999999999999", LONGEST),
            ("max-age='3600'", 0),
            ("max-age=3600.5", 0),
            ("max-age=-1", 0),
            ("max-age =3600", 0),
            ("max-age= 3600", 0),
            ("max-age", 0),
            ("extension=\"max-age=3600\", max-age=1", 1),
            ("max-age=1, extension=\"a\\\",max-age=3600\"", 1),
            ("max-age=1800, max-age=1", 1800),
        ] {
            let found = of(&[("cache-control", value)]).seconds("max-age");
            assert_eq!(found, Some(Duration::from_secs(seconds)), "{value}");
        }
        assert_eq!(of(&[("cache-control", "extension=\"max-age=3600\"")]).seconds("max-age"), None);
    }

    #[test]
    fn directives_that_list_fields_are_not_about_the_whole_response() {
        let whole = of(&[("cache-control", "No-Cache, private=\"x-a, x-b\"")]);
        assert!(whole.has_whole("no-cache") && !whole.has_whole("private") && whole.has("private"));
        let fields: Vec<_> = whole.fields("private").collect();
        assert_eq!(fields, ["x-a", "x-b"]);
        assert!(of(&[("cache-control", "private=\"\"")]).has_whole("private"));
        assert!(of(&[("cache-control", "private=\"not a name\"")]).has_whole("private"));
    }

    /// RFC 9213 section 2.2.
    #[test]
    fn a_targeted_field_replaces_the_general_one_if_it_is_valid() {
        let both = |targeted| of(&[("cache-control", "no-store"), ("cdn-cache-control", targeted)]);
        for valid in ["max-age=60", "foobar, max-age=60", "max-age=60;a=1", "a=\"x, y\", max-age=60"] {
            let found = both(valid);
            assert!(found.targeted && !found.has("no-store"), "{valid}");
            assert_eq!(found.seconds("max-age"), Some(Duration::from_secs(60)), "{valid}");
        }
        for invalid in ["", "max-age=60, &&&", "max-age=\"60\"", "MaX-aGe=60", "max-age =60", "max-age=6.5"] {
            assert!(both(invalid).has("no-store"), "{invalid}");
        }
    }
}
