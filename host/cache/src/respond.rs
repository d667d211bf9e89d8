//! Responses from what is stored: whole, a part of it, or that nothing has changed (RFC 9110 sections 13 and 14).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use witgate_exchange::body::Body;

use crate::directives::split;
use crate::entry::{Content, Entry};
use crate::fill::GrowingReader;
use crate::policy::date;

/// The response to a request with this method and these headers from a stored response.
pub(crate) fn respond(entry: &Entry, method: &Method, request: &HeaderMap, now: Instant) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = entry.status;
    *response.headers_mut() = entry.headers.clone();
    response.headers_mut().insert(AGE, seconds(entry.age(now)));
    if entry.status == StatusCode::OK && is_not_modified(&entry.headers, request) {
        not_modified(&mut response);
        return response;
    }
    let length = entry.body.length();
    match &entry.body {
        Content::Whole(bytes) if entry.status == StatusCode::OK && *method == Method::GET => {
            match range(entry, request, length) {
                Some(Ok((first, last))) => {
                    let range = format!("bytes {first}-{last}/{length}");
                    part(&mut response, StatusCode::PARTIAL_CONTENT, &range, bytes.slice(first..=last));
                }
                Some(Err(())) => {
                    let range = format!("bytes */{length}");
                    response.headers_mut().remove(CONTENT_TYPE);
                    part(&mut response, StatusCode::RANGE_NOT_SATISFIABLE, &range, Bytes::new());
                }
                None => *response.body_mut() = Body::from(bytes.clone()),
            }
        }
        _ if *method == Method::HEAD => {
            if entry.status != StatusCode::NO_CONTENT {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        Content::Whole(bytes) => *response.body_mut() = Body::from(bytes.clone()),
        Content::Growing(growing) => {
            *response.body_mut() = Body::wrap(GrowingReader::new(growing.clone()));
        }
    }
    response
}

fn seconds(age: Duration) -> HeaderValue {
    HeaderValue::from(age.as_secs())
}

fn part(response: &mut Response<Body>, status: StatusCode, range: &str, bytes: Bytes) {
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(range) = HeaderValue::from_str(range) {
        headers.insert(CONTENT_RANGE, range);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *response.body_mut() = Body::from(bytes);
}

/// Turns a response into one without content that says that nothing has changed (RFC 9110 section 15.4.5).
pub(crate) fn not_modified(response: &mut Response<Body>) {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.body_mut() = Body::Empty;
    for name in
        [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, CONTENT_RANGE, ACCEPT_RANGES]
    {
        response.headers_mut().remove(name);
    }
}

/// Whether the client has the response already (RFC 9110 section 13.2.2): `If-None-Match` counts, otherwise
/// `If-Modified-Since`.
pub(crate) fn is_not_modified(stored: &HeaderMap, request: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let etag = stored.get(ETAG).map(HeaderValue::as_bytes);
        let texts = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        return texts.flat_map(split).any(|wanted| match etag {
            _ if wanted == "*" => true,
            Some(etag) => opaque(wanted.as_bytes()) == opaque(etag),
            None => false,
        });
    }
    let Some(since) = date(request, &IF_MODIFIED_SINCE) else { return false };
    let modified = date(stored, &LAST_MODIFIED).or_else(|| date(stored, &DATE));
    modified.is_some_and(|modified| modified <= since)
}

/// An entity tag without the mark of a weak one (RFC 9110 section 8.8.3.2).
fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// The range that is asked for: its first and last byte, `Err` if it is not satisfiable, `None` if the whole response is to
/// be sent: also for several ranges, which may be ignored (RFC 9110 section 14.2).
fn range(entry: &Entry, request: &HeaderMap, length: usize) -> Option<Result<(usize, usize), ()>> {
    let mut values = request.get_all(RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    if !is_unchanged(&entry.headers, request) {
        return None;
    }
    let (unit, ranges) = value.to_str().ok()?.split_once('=')?;
    let (first, last) = ranges.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || last.contains([',', '-']) {
        return None;
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are far behind the end.
        true if !text.is_empty() => Some(text.parse().unwrap_or(usize::MAX)),
        _ => None,
    };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix = number(last)?.min(length);
        return Some(if suffix == 0 { Err(()) } else { Ok((length - suffix, length - 1)) });
    }
    let first = number(first)?;
    let last = if last.is_empty() { usize::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(if first >= length { Err(()) } else { Ok((first, last.min(length - 1))) })
}

/// Whether `If-Range` holds, or is absent (RFC 9110 section 13.1.5). Weak entity tags never match.
fn is_unchanged(stored: &HeaderMap, request: &HeaderMap) -> bool {
    let Some(wanted) = request.get(IF_RANGE) else { return true };
    if wanted.as_bytes().starts_with(b"\"") {
        return stored.get(ETAG) == Some(wanted);
    }
    let modified = stored.get(LAST_MODIFIED);
    // A date is a strong validator only if it is clearly older than the response (RFC 9110 section 8.8.2.2).
    let strong = match (date(stored, &LAST_MODIFIED), date(stored, &DATE)) {
        (Some(modified), Some(generated)) => {
            generated.duration_since(modified).is_ok_and(|age| age.as_secs() >= 1)
        }
        _ => false,
    };
    strong && modified == Some(wanted)
}
