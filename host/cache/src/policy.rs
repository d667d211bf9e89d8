//! What may be stored, and for how long it is fresh (RFC 9111 sections 3 and 4.2).

use std::time::{Duration, SystemTime};

use http::header::{AGE, CONTENT_TYPE, DATE, EXPIRES, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use witgate_config::model::{RouteCache, SetCookie};

use crate::directives::{Directives, delta_seconds};

/// The longest lifetime that is computed from `Last-Modified`.
const LONGEST_HEURISTIC: Duration = Duration::from_secs(24 * 3600);

/// What a stored response says about its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How long it is fresh, counted from its generation.
    pub(crate) lifetime: Duration,
    /// Whether it may be used for requests with credentials, and stored for them (RFC 9111 section 3.5).
    pub(crate) is_for_all: bool,
    /// Whether it must never be used while it is stale.
    pub(crate) must_revalidate: bool,
    /// Whether it must be validated before each use.
    pub(crate) no_cache: bool,
    /// How long it may be used while it is revalidated.
    pub(crate) stale_while_revalidate: Duration,
    /// How long it may be used if the upstream fails.
    pub(crate) stale_if_error: Duration,
}

/// What is known of a request when its response is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) settings: &'a RouteCache,
    /// Whether the request has an identity or credentials and may share only what the response allows in words.
    pub(crate) restricted: bool,
    /// When the response came.
    pub(crate) now: SystemTime,
}

/// The terms of a response to a GET. `None` if it must not be stored, or storing it is of no use.
pub(crate) fn terms(
    status: StatusCode,
    headers: &HeaderMap,
    circumstances: Circumstances<'_>,
) -> Option<Terms> {
    let settings = circumstances.settings;
    let directives = Directives::of_response(headers);
    let understood = is_understood(status);
    let no_store = directives.has("no-store") && !(directives.has("must-understand") && understood);
    let refused = no_store
        || directives.has("must-understand") && !understood
        || directives.has_whole("private")
        || status.is_informational()
        || matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED)
        || settings.set_cookie == SetCookie::Refuse && headers.contains_key(SET_COOKIE)
        || is_endless(headers);
    if refused {
        return None;
    }
    let shared = directives.has("s-maxage");
    let is_for_all = shared || directives.has_whole("public") || directives.has("must-revalidate");
    if circumstances.restricted && !is_for_all {
        return None;
    }
    let lifetime = lifetime(status, headers, &directives, circumstances)?;
    let must_revalidate = shared || directives.has("must-revalidate") || directives.has("proxy-revalidate");
    let no_cache = directives.has_whole("no-cache");
    let late = |name, default| match directives.seconds_or_endless(name) {
        _ if must_revalidate || no_cache => Duration::ZERO,
        Some(said) => said,
        None => default,
    };
    let terms = Terms {
        lifetime,
        is_for_all,
        must_revalidate,
        no_cache,
        stale_while_revalidate: late("stale-while-revalidate", settings.stale_while_revalidate),
        stale_if_error: late("stale-if-error", settings.stale_if_error),
    };
    let usable = !terms.lifetime.is_zero() && !no_cache;
    let late = !terms.stale_if_error.is_zero() || !terms.stale_while_revalidate.is_zero();
    (usable || late || has_validator(headers)).then_some(terms)
}

/// Whether a response has a validator, by which it can be revalidated.
pub(crate) fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// How long a response is fresh (RFC 9111 section 4.2.1). `None` if nothing says that it may be stored at all.
fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &Directives,
    circumstances: Circumstances<'_>,
) -> Option<Duration> {
    if let Some(lifetime) = directives.seconds("s-maxage").or_else(|| directives.seconds("max-age")) {
        return Some(lifetime);
    }
    if !directives.targeted && headers.contains_key(EXPIRES) {
        let generated = date(headers, &DATE).unwrap_or(circumstances.now);
        let expires = date(headers, &EXPIRES);
        return Some(expires.and_then(|expires| expires.duration_since(generated).ok()).unwrap_or_default());
    }
    if let Some(lifetime) = circumstances.settings.lifetimes.get(&status.as_u16()) {
        return Some(*lifetime);
    }
    let heuristic = is_heuristically_cacheable(status) || directives.has("public");
    if !heuristic && !directives.has("no-cache") {
        return None;
    }
    if !circumstances.settings.heuristics || !heuristic {
        return Some(Duration::ZERO);
    }
    let generated = date(headers, &DATE).unwrap_or(circumstances.now);
    let modified = date(headers, &LAST_MODIFIED);
    let since = modified.and_then(|modified| generated.duration_since(modified).ok()).unwrap_or_default();
    Some((since / 10).min(LONGEST_HEURISTIC))
}

/// The age of a response when it came (RFC 9111 section 4.2.3). `delay` is how long the request took.
pub(crate) fn initial_age(headers: &HeaderMap, now: SystemTime, delay: Duration) -> Duration {
    let apparent = date(headers, &DATE).and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    (age(headers) + delay).max(apparent)
}

/// The value of `Age`: the first of several counts, and what is no number is ignored (RFC 9111 section 5.1).
fn age(headers: &HeaderMap) -> Duration {
    let first = headers.get(AGE).and_then(|age| age.to_str().ok()).and_then(|age| age.split(',').next());
    first.and_then(|first| delta_seconds(first.trim())).unwrap_or_default()
}

/// A date in any of the forms of RFC 9110 section 5.6.7. Several are none, because they may differ.
pub(crate) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Statuses whose meaning this cache knows, and whose responses it may store (RFC 9111 section 3).
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=204 | 300..=303 | 307 | 308 | 400..=417 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 511)
}

/// RFC 9110 section 15.1.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Streams of events go on as long as somebody listens.
fn is_endless(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let events = b"text/event-stream";
    content_type.len() >= events.len() && content_type[..events.len()].eq_ignore_ascii_case(events)
}

/// What of a response is not stored: what concerns one hop, what the response lists in `no-cache` or `private`, and
/// cookies where the settings say so (RFC 9111 sections 3.1, 5.2.2.4 and 5.2.2.7).
pub(crate) fn without_unstored(headers: &HeaderMap, settings: &RouteCache) -> HeaderMap {
    let directives = Directives::of_response(headers);
    let mut stored = headers.clone();
    for name in
        ["connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization"]
            .into_iter()
            .chain([
                "proxy-connection",
                "te",
                "trailer",
                "transfer-encoding",
                "upgrade",
                "age",
                "proxy-status",
            ])
    {
        stored.remove(name);
    }
    for name in directives.fields("no-cache").chain(directives.fields("private")) {
        stored.remove(name);
    }
    if settings.set_cookie == SetCookie::Remove {
        stored.remove(SET_COOKIE);
    }
    stored
}
