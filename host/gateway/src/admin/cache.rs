//! `POST /cache/purge?url=…|prefix=…|tag=…|all=true[&soft=true]` and `GET /cache[?url=…|prefix=…|tag=…|all=true]`

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use witgate_cache::{Cache, Selector};

/// The most stored responses that are listed.
const LISTED: usize = 1_000;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// `None`: nothing is selected.
    pub(super) selector: Option<Selector>,
    pub(super) soft: bool,
}

/// The result of a purge.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Purged {
    /// The number of responses.
    pub(crate) purged: usize,
}

/// What of the cache is in use, and what it did so far.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CacheStatus {
    /// Bytes that the cache may use.
    pub(crate) memory: usize,
    /// Bytes of stored responses.
    pub(crate) bytes: usize,
    /// Bytes reserved for responses that are being stored.
    pub(crate) filling_bytes: usize,
    /// The number of keys under which responses are stored.
    pub(crate) resources: usize,
    /// How often each result was.
    pub(crate) results: BTreeMap<String, u64>,
    /// The stored responses that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) responses: Vec<StoredResponse>,
}

/// A stored response.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredResponse {
    /// The URL as clients ask for it.
    pub(crate) url: String,
    /// The status.
    pub(crate) status: u16,
    /// Bytes of memory.
    pub(crate) bytes: usize,
    /// Its age in seconds.
    pub(crate) age: u64,
    /// For how many seconds it is still fresh; 0 if it is stale.
    pub(crate) fresh: u64,
    /// Its tags.
    pub(crate) tags: Vec<String>,
}

/// Parses a query.
///
/// # Errors
/// Why it is invalid.
pub(super) fn read(query: Option<&str>) -> Result<Query, String> {
    let mut asked = Query { selector: None, soft: false };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(|_| format!("`{name}` is no UTF-8"))?;
        let selector = match (name, &*value) {
            ("soft", "true" | "false") => {
                asked.soft = value == "true";
                continue;
            }
            ("url", url) => Selector::url(url)?,
            ("prefix", prefix) => Selector::prefix(prefix)?,
            ("tag", tag) => Selector::tag(tag)?,
            ("all", "true") => Selector::all(),
            _ => {
                return Err(format!("`{pair}` is none of url=URL, prefix=URL, tag=TAG, all=true, soft=true"));
            }
        };
        if asked.selector.replace(selector).is_some() {
            return Err("select responses by one of url, prefix, tag and all".to_owned());
        }
    }
    Ok(asked)
}

/// Purges, away from the thread that serves admin requests.
pub(super) async fn purge(
    cache: Option<Arc<Cache>>,
    selector: Selector,
    soft: bool,
) -> Result<Purged, String> {
    let cache = cache.ok_or("no route has a cache")?;
    let purged = tokio::task::spawn_blocking(move || cache.purge(selector, soft)).await;
    purged.map(|purged| Purged { purged }).map_err(|error| error.to_string())
}

/// The state of the cache, with the responses that are asked for.
pub(super) async fn show(
    cache: Option<Arc<Cache>>,
    selector: Option<Selector>,
) -> Result<CacheStatus, String> {
    let cache = cache.ok_or("no route has a cache")?;
    let shown = tokio::task::spawn_blocking(move || {
        let usage = cache.usage();
        let found = selector.map_or_else(Vec::new, |selector| cache.list(&selector, LISTED));
        let responses = found.into_iter().map(|stored| StoredResponse {
            url: stored.url,
            status: stored.status,
            bytes: stored.bytes,
            age: stored.age_seconds,
            fresh: stored.fresh_seconds,
            tags: stored.tags,
        });
        CacheStatus {
            memory: usage.memory,
            bytes: usage.bytes,
            filling_bytes: usage.filling_bytes,
            resources: usage.resources,
            results: usage.results.iter().map(|(result, count)| (result.name().to_owned(), *count)).collect(),
            responses: responses.collect(),
        }
    });
    shown.await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_which_responses_are_meant() {
        let url = "http%3A%2F%2Fa.example%2Fx%3Fy%3D1%262";
        let asked = read(Some(&format!("url={url}&soft=true"))).expect("a selection");
        assert_eq!(asked, Query { selector: Selector::url("http://a.example/x?y=1&2").ok(), soft: true });
        assert_eq!(read(None), Ok(Query { selector: None, soft: false }));
        assert_eq!(read(Some("all=true")).expect("all").selector, Some(Selector::all()));
        for wrong in
            ["url=/x", "tag=", "all=yes", "soft=1", "colour=red", "tag=a&tag=b", "tag=a&all=true", "tag=%FF"]
        {
            assert!(read(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
