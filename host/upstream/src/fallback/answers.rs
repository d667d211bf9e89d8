//! The last good responses of an upstream, in memory, for use while the upstream cannot take requests.
//!
//! This is no cache: an upstream that can respond is always asked. A response may be stored if RFC 9111 lets a
//! shared cache store it and use it when it is stale. In addition, a response is not stored if the client was
//! identified or sent `Authorization` or `Cookie`, if it sets a cookie, or if it varies by anything but
//! `Accept-Encoding`.
//!
//! The responses are in a few shards. Each shard has a lock, which is held for one lookup or insertion. In each
//! shard, the keys that were stored first are removed first.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AGE, AUTHORIZATION, CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use witgate_config::model;
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::head::Scheme;

use super::mark;
use crate::request::UpstreamRequest;

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The number of shards. The configuration requires room for at least as many responses.
const SHARDS: usize = 8;

/// The shortest time after which a stored response is replaced by a newer one.
const RENEWAL: Duration = Duration::from_secs(1);

/// The approximate memory of a stored response in addition to its bytes.
const OVERHEAD: usize = 256;

/// Directives of `Cache-Control` that forbid storing a response, or using it when it is stale (RFC 9111 sections
/// 4.2.4 and 5.2.2).
const FORBIDDING: [&str; 6] =
    ["no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate", "s-maxage"];

/// The stored responses of one upstream.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) settings: model::CachedAnswers,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    answers: HashMap<Arc<str>, Arc<StoredResponse>>,
    /// The keys, those stored first in front.
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

/// A stored response.
#[derive(Debug)]
pub(crate) struct StoredResponse {
    headers: HeaderMap,
    body: Bytes,
    since: Instant,
    /// Its age in seconds when it came.
    age: u64,
    size: usize,
}

/// The key under which a response is stored: scheme, host, path with query, and the content codings that the
/// client accepts. `None` if the response may be for this client only.
pub(crate) fn key(order: &UpstreamRequest<'_>) -> Option<String> {
    if !is_shareable(order) || directives(order.headers).any(|directive| directive == "no-store") {
        return None;
    }
    let scheme = match order.shareable? {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let host = order.authority.unwrap_or_default();
    let mut key = format!("{scheme}\n{host}\n{}", order.target);
    for codings in order.headers.get_all(ACCEPT_ENCODING) {
        key.push('\n');
        key.push_str(codings.to_str().ok()?);
    }
    Some(key)
}

/// Whether the request may get a response that was given to others: a GET of an unidentified client.
fn is_shareable(order: &UpstreamRequest<'_>) -> bool {
    order.method == Method::GET
        && order.upgrade.is_none()
        && order.shareable.is_some()
        && [AUTHORIZATION, COOKIE].iter().all(|name| !order.headers.contains_key(name))
}

/// Whether a response may be given to everybody, and may be used when it is stale.
pub(crate) fn is_for_everybody(headers: &HeaderMap) -> bool {
    let varies = |value: &HeaderValue| {
        value.to_str().map_or(true, |names| {
            names.split(',').any(|name| !name.trim().eq_ignore_ascii_case(ACCEPT_ENCODING.as_str()))
        })
    };
    !headers.contains_key(SET_COOKIE)
        && !headers.get_all(VARY).iter().any(varies)
        && !directives(headers).any(|directive| FORBIDDING.contains(&directive.as_str()))
}

/// The names of the directives of `Cache-Control`, in lower case. A value that is not text counts as `no-store`.
fn directives(headers: &HeaderMap) -> impl Iterator<Item = String> + '_ {
    let values = headers.get_all(CACHE_CONTROL).iter();
    values
        .map(|value| value.to_str().unwrap_or("no-store"))
        .flat_map(|value| value.split(','))
        .map(|directive| directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase())
}

impl Answers {
    /// Creates an empty store.
    pub(crate) fn new(settings: model::CachedAnswers) -> Answers {
        Answers { settings, hasher: RandomState::new(), shards: Default::default() }
    }

    /// Whether a response under this key would be stored: there is none yet, or it is due for renewal.
    pub(crate) fn wants(&self, key: &str) -> bool {
        self.shard(key).answers.get(key).is_none_or(|kept| kept.since.elapsed() >= RENEWAL)
    }

    /// The response under a key, unless it is too old.
    pub(crate) fn find(&self, key: &str) -> Option<Arc<StoredResponse>> {
        let kept = self.shard(key).answers.get(key).cloned()?;
        (kept.age() <= self.settings.max_age).then_some(kept)
    }

    /// Stores a response, unless it is too large.
    pub(crate) fn keep(&self, key: String, headers: HeaderMap, body: Bytes) {
        let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let size = key.len() + fields + body.len() + OVERHEAD;
        if size > self.settings.entry_bytes {
            return;
        }
        // A copy, because the received bytes would keep the whole larger buffer in which they arrived.
        let body = Bytes::copy_from_slice(&body);
        let kept = StoredResponse { headers, body, since: Instant::now(), age, size };
        let dropped = self.shard(&key).insert(key.into(), kept.into(), self.settings);
        // Dropped outside of the lock.
        drop(dropped);
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Inserts a response, and returns those that were removed.
    fn insert(
        &mut self,
        key: Arc<str>,
        kept: Arc<StoredResponse>,
        settings: model::CachedAnswers,
    ) -> Vec<Arc<StoredResponse>> {
        let mut dropped = Vec::new();
        self.bytes += kept.size;
        match self.answers.insert(key.clone(), kept) {
            Some(before) => {
                self.bytes -= before.size;
                dropped.push(before);
            }
            None => self.order.push_back(key),
        }
        while self.order.len() > settings.entries / SHARDS || self.bytes > settings.bytes / SHARDS {
            let Some(first) = self.order.pop_front() else { break };
            if let Some(kept) = self.answers.remove(&first) {
                self.bytes -= kept.size;
                dropped.push(kept);
            }
        }
        dropped
    }
}

impl StoredResponse {
    fn age(&self) -> Duration {
        self.since.elapsed() + Duration::from_secs(self.age)
    }

    /// The response with its headers `Age` (RFC 9111 section 5.1), `Cache-Status` (RFC 9211) and `Proxy-Status`.
    pub(crate) fn response(&self, kind: FaultKind) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.headers_mut() = self.headers.clone();
        response.headers_mut().insert(AGE, HeaderValue::from(self.age().as_secs()));
        // Codes of faults are tokens (RFC 9651 section 3.3.4).
        let hit = format!("witgate; hit; detail={}", kind.describe().code);
        if let Ok(hit) = HeaderValue::from_str(&hit) {
            response.headers_mut().append(CACHE_STATUS, hit);
        }
        mark(&mut response, kind);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(entries: usize, bytes: usize) -> Answers {
        let max_age = Duration::from_secs(60);
        Answers::new(model::CachedAnswers { entries, bytes, entry_bytes: bytes / SHARDS, max_age })
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    /// RFC 9111 sections 3, 4.1, 4.2.4 and 5.2.2.
    #[test]
    fn only_what_anybody_may_see_and_see_late_is_kept() {
        for kept in [
            &[][..],
            &[("cache-control", "public, max-age=60, stale-if-error=600")],
            &[("vary", "Accept-Encoding"), ("cache-control", "max-age=0")],
        ] {
            assert!(is_for_everybody(&headers(kept)), "{kept:?}");
        }
        for refused in [
            [("cache-control", "no-store")],
            [("cache-control", "max-age=60, Private")],
            [("cache-control", "private=\"x-a, x-b\"")],
            [("cache-control", "no-cache")],
            [("cache-control", "max-age=60,must-revalidate")],
            [("cache-control", "s-maxage=60")],
            [("vary", "accept-encoding, cookie")],
            [("vary", "*")],
            [("set-cookie", "a=b")],
        ] {
            assert!(!is_for_everybody(&headers(&refused)), "{refused:?}");
        }
    }

    #[test]
    fn neither_answers_nor_bytes_are_ever_too_many() {
        for answers in [answers(SHARDS * 2, 1 << 20), answers(1 << 20, SHARDS * 2048)] {
            for number in 0..500 {
                answers.keep(format!("{number}"), HeaderMap::new(), Bytes::from(vec![0; 300]));
                let shards = || answers.shards.iter().map(|shard| shard.lock().unwrap());
                let count: usize = shards().map(|shard| shard.answers.len()).sum();
                let bytes: usize = shards().map(|shard| shard.bytes).sum();
                let sizes: usize =
                    shards().map(|shard| shard.answers.values().map(|kept| kept.size).sum::<usize>()).sum();
                assert_eq!(bytes, sizes);
                assert!(count <= answers.settings.entries && bytes <= answers.settings.bytes);
            }
            assert!(answers.find("499").is_some(), "the latest is there");
            assert!(answers.find("0").is_none(), "the first made room");
        }
    }

    #[test]
    fn an_answer_that_is_too_large_or_too_old_is_none() {
        let answers = answers(SHARDS, SHARDS * 1024);
        answers.keep("large".into(), HeaderMap::new(), Bytes::from(vec![0; 1024]));
        assert!(answers.find("large").is_none());
        answers.keep("old".into(), headers(&[("age", "61")]), Bytes::new());
        assert!(answers.find("old").is_none());
        answers.keep("aged".into(), headers(&[("age", "30")]), Bytes::new());
        assert!(answers.find("aged").is_some_and(|kept| kept.age() >= Duration::from_secs(30)));
        assert!(!answers.wants("aged") && answers.wants("new"));
    }
}
