//! `Vary`: by which headers of the request a response was selected (RFC 9111 section 4.1).

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};

use crate::directives::text;

/// The headers by which a response was selected, with their values in normal form; `None`: the header was absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection(Vec<(HeaderName, Option<String>)>);

impl Selection {
    /// The selection of a response to a request with these headers. `None` if no other request can be answered by it:
    /// `Vary` has `*`, or what is no header name.
    pub(crate) fn new(response: &HeaderMap, request: &HeaderMap) -> Option<Selection> {
        let mut names: Vec<HeaderName> = Vec::new();
        for value in response.get_all(VARY) {
            let value = value.to_str().ok()?;
            for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                names.push(name.parse().ok().filter(|_| name != "*")?);
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Some(Selection(names.into_iter().map(|name| (name.clone(), normal(request, &name))).collect()))
    }

    /// Whether a request with these headers selects the response as well.
    pub(crate) fn fits(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|(name, value)| normal(request, name) == *value)
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        let of = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        self.0.iter().map(|(name, value)| name.as_str().len() + of(value) + size_of_val(value)).sum()
    }
}

/// The value of a header in normal form: fields are combined, and white space around commas does not count.
fn normal(request: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values = request.get_all(name);
    let mut elements = values.iter().flat_map(text_or_bytes).peekable();
    if !request.contains_key(name) {
        return None;
    }
    if *name == ACCEPT_ENCODING {
        return Some(codings(elements));
    }
    if *name == ACCEPT_LANGUAGE {
        let mut languages: Vec<_> = elements.map(|language| language.to_ascii_lowercase()).collect();
        // Only without weights does the order of equal languages not matter.
        if !languages.iter().any(|language| language.contains(';')) {
            languages.sort_unstable();
        }
        return Some(languages.join(","));
    }
    let mut joined = String::new();
    while let Some(element) = elements.next() {
        joined.push_str(&element);
        if elements.peek().is_some() {
            joined.push(',');
        }
    }
    Some(joined)
}

/// The elements of a value. A value that is no text is one element, written so that different bytes differ.
fn text_or_bytes(value: &http::HeaderValue) -> Vec<String> {
    match value.to_str() {
        Ok(text) => text.split(',').map(|element| element.trim().to_owned()).collect(),
        Err(_) => vec![format!("{:?}", value.as_bytes())],
    }
}

/// The codings that `Accept-Encoding` allows, in order. Their weights do not count: every response that one request
/// accepts is accepted by another with the same set.
fn codings(elements: impl Iterator<Item = String>) -> String {
    let mut codings: Vec<String> = elements
        .filter_map(|element| {
            let (coding, parameters) = element.split_once(';').unwrap_or((&element, ""));
            let coding = coding.trim().to_ascii_lowercase();
            let weight = parameters.trim().strip_prefix("q=").map(|weight| weight.trim().parse::<f32>());
            let refused = matches!(weight, Some(Ok(weight)) if weight <= 0.0);
            match (coding.as_str(), refused) {
                ("", _) | ("identity", false) => None,
                ("identity" | "*", true) => Some(format!("!{coding}")),
                (_, true) => None,
                (_, false) => Some(coding),
            }
        })
        .collect();
    codings.sort_unstable();
    codings.dedup();
    codings.join(",")
}

/// Tags of a response: the words of `Surrogate-Key`, and the elements of `Cache-Tag`.
pub(crate) fn tags(headers: &HeaderMap) -> Vec<String> {
    let words =
        headers.get_all("surrogate-key").iter().flat_map(|value| text(value).split_ascii_whitespace());
    let elements =
        headers.get_all("cache-tag").iter().flat_map(|value| text(value).split(',').map(str::trim));
    let mut tags: Vec<String> =
        words.chain(elements).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn same(name: &'static str, first: &[&'static str], second: &[&'static str]) -> bool {
        let request =
            |values: &[&'static str]| headers(&values.iter().map(|value| (name, *value)).collect::<Vec<_>>());
        let selection = Selection::new(&headers(&[("vary", name)]), &request(first));
        selection.expect("a selection").fits(&request(second))
    }

    #[test]
    fn a_star_selects_nothing() {
        for vary in ["*", "*, *", ", *", "a, *", "*, a", "not a name"] {
            assert_eq!(Selection::new(&headers(&[("vary", vary)]), &HeaderMap::new()), None, "{vary}");
        }
        assert_eq!(Selection::new(&headers(&[("vary", ""), ("vary", "*")]), &HeaderMap::new()), None);
    }

    #[test]
    fn values_are_compared_in_normal_form() {
        assert!(same("foo", &["1, 2"], &["1", "2"]) && same("foo", &["1,2"], &["1 ,  2"]));
        assert!(same("foo", &[], &[]));
        for (first, second) in [(&["1"][..], &["2"][..]), (&["1"], &[]), (&[], &[""]), (&["a"], &["A"])] {
            assert!(!same("foo", first, second), "{first:?} {second:?}");
        }
        assert!(same("accept-language", &["en, de"], &["De,EN"]));
        assert!(!same("accept-language", &["en, de;q=0.5"], &["de, en;q=0.5"]));
    }

    #[test]
    fn accepted_codings_are_a_set() {
        for (first, second) in [
            ("gzip, br", "br,gzip"),
            ("gzip;q=1.0, br;q=0.5", "GZIP, br"),
            ("gzip, deflate;q=0", "gzip"),
            ("gzip, identity", "gzip"),
        ] {
            assert!(same("accept-encoding", &[first], &[second]), "{first} {second}");
        }
        for (first, second) in
            [("gzip", "br"), ("gzip", "gzip, identity;q=0"), ("gzip", "gzip, *;q=0"), ("", "*")]
        {
            assert!(!same("accept-encoding", &[first], &[second]), "{first} {second}");
        }
        assert!(!same("accept-encoding", &[], &["identity"]), "without the header anything is acceptable");
    }

    #[test]
    fn tags_are_words_and_elements() {
        let found = tags(&headers(&[("surrogate-key", "a  b"), ("cache-tag", "c d, b,")]));
        assert_eq!(found, ["a", "b", "c d"]);
    }
}
