//! Compresses uncompressed responses: gzip, Brotli or Zstandard, as the client prefers.
//!
//! Choose it where upstreams send uncompressed text to distant clients; it costs CPU time on the gateway.
//! Streaming still works: what is available is flushed as soon as the upstream pauses. Left alone: encoded
//! responses, partial ones (206), responses to HEAD, those marked `no-transform` (RFC 9110 section 7.7), and media
//! types that do not shrink.

mod accept;
mod encoder;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{Size, Text};
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::head::RequestHead;

use super::{Filter, FilterKind, Stage, schema_of, vary};
use encoder::Compressed;

pub(super) const ROW: FilterKind = FilterKind {
    kind: "compression",
    summary: "compresses responses by gzip, Brotli or Zstandard, as the client prefers",
    place: Stage::Edge,
    build,
    schema: schema_of::<Settings>,
};

/// Digests of the encoded content (RFC 9530, RFC 3230, RFC 1864), which compression makes wrong.
const DIGESTS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Settings of `compression`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Codings in the order of the gateway's preference, which decides between codings that the client weighs
    /// equally.
    #[serde(default = "default_codings")]
    codings: Vec<Coding>,
    /// Bodies that are known to be smaller are not compressed.
    #[serde(default = "default_min_size")]
    min_size: Text<Size>,
    /// Media types that are compressed. `text/*` stands for all subtypes.
    #[serde(default = "default_types")]
    types: Vec<String>,
}

/// A content coding (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Coding {
    /// Zstandard.
    Zstd,
    /// Brotli.
    Br,
    /// gzip.
    Gzip,
}

impl Coding {
    fn token(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }
}

fn default_codings() -> Vec<Coding> {
    vec![Coding::Zstd, Coding::Br, Coding::Gzip]
}

fn default_min_size() -> Text<Size> {
    Text::of("1KiB")
}

fn default_types() -> Vec<String> {
    let types = [
        "text/*",
        "application/javascript",
        "application/json",
        "application/problem+json",
        "application/manifest+json",
        "application/ld+json",
        "application/xml",
        "application/xhtml+xml",
        "application/atom+xml",
        "application/rss+xml",
        "application/wasm",
        "image/svg+xml",
    ];
    types.map(str::to_owned).to_vec()
}

fn build(settings: &Written) -> Result<Box<dyn Filter>, Problems> {
    let Settings { codings, min_size, types } = settings.parse()?;
    let mut problems = Problems::new();
    for (index, media_type) in types.iter().enumerate() {
        if media_type.split('/').filter(|part| !part.is_empty()).count() != 2 {
            let message = format!("`{media_type}` is not a media type");
            let hint = Some("write `application/json`, or `text/*` for all of a kind".to_owned());
            problems.push(settings.problem(&format!("/types/{index}"), message, hint));
        }
    }
    if codings.is_empty() {
        problems.push(settings.problem("/codings", "without codings nothing can be compressed", None));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let types = types.iter().map(|media_type| media_type.to_ascii_lowercase()).collect();
    Ok(Box::new(Compression { codings, min_size: min_size.value.0, types }))
}

struct Compression {
    codings: Vec<Coding>,
    min_size: u64,
    types: Vec<String>,
}

impl Compression {
    /// Whether this response may be compressed, whatever the client accepts.
    fn suits(&self, response: &Response<Body>) -> bool {
        let headers = response.headers();
        let bodiless = matches!(
            response.status(),
            StatusCode::PARTIAL_CONTENT | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) || response.status().is_informational();
        !bodiless
            && !headers.contains_key(CONTENT_ENCODING)
            && !headers.contains_key(CONTENT_RANGE)
            && !has_directive(headers, "no-transform")
            && length(response).is_none_or(|length| length >= self.min_size)
            && headers.get(CONTENT_TYPE).is_some_and(|value| self.takes_type(value))
    }

    fn takes_type(&self, value: &HeaderValue) -> bool {
        let Ok(text) = value.to_str() else { return false };
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // An event stream is text, but its events are small, and many clients want each at once.
        essence != "text/event-stream"
            && self.types.iter().any(|allowed| match allowed.strip_suffix('*') {
                Some(kind) => essence.starts_with(kind),
                None => essence == *allowed,
            })
    }
}

/// The length of the body if it is known. For a response to HEAD it is in the header.
fn length(response: &Response<Body>) -> Option<u64> {
    let said = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    said.or_else(|| response.body().size_hint().exact())
}

fn has_directive(headers: &HeaderMap, directive: &str) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(directive))
}

impl Compression {
    fn compress(&self, head: &RequestHead, mut response: Response<Body>) -> Response<Body> {
        if response.status() == StatusCode::NOT_MODIFIED {
            self.revalidate(head, response.headers_mut());
            return response;
        }
        if !self.suits(&response) {
            return response;
        }
        vary(response.headers_mut(), "accept-encoding");
        let accepted = head.headers.get_all(ACCEPT_ENCODING);
        let Some(coding) = accept::choose(accepted.iter(), &self.codings) else { return response };
        if head.method == Method::HEAD {
            // The header states the uncompressed length; the compressed one is unknown, because no body is made
            // for HEAD.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        encode_head(response.headers_mut(), coding);
        if head.method == Method::HEAD {
            return response;
        }
        response.map(|body| Body::wrap(Compressed::new(body, coding)))
    }
}

impl Compression {
    /// Adapts a 304 to the response that the client has stored, since a cache takes the fields of one for the other
    /// (RFC 9110 section 15.4.5, RFC 9111 section 4.3.4). A 304 seldom has a type and never a length, so it is treated
    /// as if its response was long enough.
    fn revalidate(&self, head: &RequestHead, headers: &mut HeaderMap) {
        let suits = !headers.contains_key(CONTENT_ENCODING)
            && !has_directive(headers, "no-transform")
            && headers.get(CONTENT_TYPE).is_none_or(|value| self.takes_type(value));
        if !suits {
            return;
        }
        vary(headers, "accept-encoding");
        let accepted = head.headers.get_all(ACCEPT_ENCODING);
        if !holds_uncompressed(head, headers) && accept::choose(accepted.iter(), &self.codings).is_some() {
            weaken_tag(headers);
        }
    }
}

/// Whether the client has stored the response to which a 304 refers as the origin sent it, and only so. The tag of a
/// compressed response is weak, so the tags in `If-None-Match` tell which of the two the client has.
fn holds_uncompressed(head: &RequestHead, not_modified: &HeaderMap) -> bool {
    let Some(tag) = not_modified.get(ETAG).map(HeaderValue::as_bytes) else { return false };
    let held = |wanted: &[u8]| head.headers.get_all(IF_NONE_MATCH).iter().any(|value| lists(value, wanted));
    held(tag) && !held(&[b"W/", tag].concat())
}

/// Whether a list of entity tags (RFC 9110 section 8.8.3) has this one. A tag may contain commas.
fn lists(value: &HeaderValue, tag: &[u8]) -> bool {
    let mut rest = value.as_bytes();
    loop {
        rest = rest.trim_ascii_start();
        let opaque = if rest.starts_with(b"W/") { 2 } else { 0 };
        let quoted = rest.get(opaque..).and_then(|rest| rest.strip_prefix(b"\""));
        let Some(length) = quoted.and_then(|quoted| quoted.iter().position(|byte| *byte == b'"')) else {
            return false;
        };
        let (next, after) = rest.split_at(opaque + length + 2);
        if next == tag {
            return true;
        }
        let Some(after) = after.trim_ascii_start().strip_prefix(b",") else { return false };
        rest = after;
    }
}

impl Filter for Compression {
    fn response<'a>(
        &'a self,
        facts: &'a mut Facts,
        response: Response<Body>,
    ) -> MaybeReady<'a, Response<Body>> {
        MaybeReady::over(self.compress(&facts.head, response))
    }
}

/// Adapts the head to an encoded body.
fn encode_head(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    for digest in DIGESTS {
        headers.remove(digest);
    }
    weaken_tag(headers);
}

/// Makes the entity tag a weak one: the bytes differ but the meaning is the same (RFC 9110 section 8.8.1).
fn weaken_tag(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) {
        let weak = [b"W/", tag.as_bytes()].concat();
        if let Ok(weak) = HeaderValue::from_bytes(&weak) {
            headers.insert(ETAG, weak);
        }
    }
}

#[cfg(test)]
mod tests;
