//! The fields of a head that describe the bytes of the body, and what changes in them after a plugin has changed
//! the body.

use http::header::{ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::coding::Coding;

/// Digests of content and representation (RFC 9530, and RFC 1864 and RFC 3230 before it).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Removes the fields that described the received bytes, and sets the new length if it is known.
pub(super) fn change(headers: &mut HeaderMap, length: Option<usize>) {
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.remove(CONTENT_ENCODING);
    headers.remove(ACCEPT_RANGES);
    drop_digests(headers);
    weaken(headers);
}

/// Removes digests, which may also come as trailers.
pub(super) fn drop_digests(headers: &mut HeaderMap) {
    for name in &DIGESTS {
        headers.remove(name);
    }
}

/// Makes a strong validator weak, because a strong one promises equal bytes (RFC 9110 section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG) else { return };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    let weak = [b"W/", tag.as_bytes()].concat();
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(weak)) {
        Ok(weak) => headers.insert(ETAG, weak),
        Err(_) => headers.remove(ETAG),
    };
}

/// Makes a request ask for a whole representation in a coding that can be decoded. The only form that is added to
/// those which the client accepts is the plain one, which is the form that it gets.
pub(super) fn ask_for_whole(headers: &mut HeaderMap) {
    headers.remove(RANGE);
    headers.remove(IF_RANGE);
    let mut kept = Vec::new();
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.as_bytes().split(|byte| *byte == b',') {
            let item = item.trim_ascii();
            let name = item.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            if Coding::of(name).is_some() {
                kept.push(item);
            }
        }
    }
    let kept = if kept.is_empty() { b"identity".to_vec() } else { kept.join(&b", "[..]) };
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(kept)) {
        Ok(kept) => headers.insert(ACCEPT_ENCODING, kept),
        Err(_) => headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_held_for_the_bytes_is_taken_back() {
        let mut head = headers(&[
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("content-digest", "sha-256=:AA==:"),
            ("etag", "\"one\""),
        ]);
        change(&mut head, None);
        assert_eq!(head, headers(&[("content-type", "text/plain"), ("etag", "W/\"one\"")]));
        change(&mut head, Some(7));
        assert_eq!(
            (&head["etag"], &head["content-length"]),
            (&"W/\"one\"".parse().unwrap(), &"7".parse().unwrap())
        );
    }

    #[test]
    fn only_codings_that_can_be_undone_are_asked_for() {
        let asked = |value: &'static str| {
            let mut head =
                headers(&[("accept-encoding", value), ("range", "bytes=0-1"), ("if-range", "\"a\"")]);
            ask_for_whole(&mut head);
            assert_eq!(head.len(), 1);
            head["accept-encoding"].to_str().unwrap().to_owned()
        };
        assert_eq!(asked("gzip;q=0.5, zz, br , *"), "gzip;q=0.5, br");
        assert_eq!(asked("compress"), "identity");
        assert_eq!(asked(""), "identity");
        let mut none = HeaderMap::new();
        ask_for_whole(&mut none);
        assert_eq!(none["accept-encoding"], "identity");
    }
}
