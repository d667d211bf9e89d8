//! What the cache did with a request: for `Cache-Status` (RFC 9211), the access log and the metrics.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response};
use witgate_exchange::body::Body;
use witgate_exchange::per_core::{self, PerCore};
use witgate_exchange::record::CacheResult;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What the cache did with one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheStatus {
    pub(crate) result: CacheResult,
    /// For a response from the cache: for how long it is fresh, or else has been stale.
    pub(crate) freshness: Option<Result<Duration, Duration>>,
    /// Why the request was forwarded (RFC 9211 section 2.2).
    pub(crate) forwarded: Option<&'static str>,
    /// The status of the response to the forwarded request, if it is not that of this response.
    pub(crate) status: Option<u16>,
    /// Whether the response is stored.
    pub(crate) stored: bool,
    /// What else there is to say.
    pub(crate) detail: Option<&'static str>,
}

impl CacheStatus {
    pub(crate) fn new(result: CacheResult) -> CacheStatus {
        CacheStatus { result, freshness: None, forwarded: None, status: None, stored: false, detail: None }
    }

    /// Of a request that was forwarded for this reason.
    pub(crate) fn forwarded(result: CacheResult, why: &'static str) -> CacheStatus {
        CacheStatus { forwarded: Some(why), ..CacheStatus::new(result) }
    }

    /// Adds what this cache did to `Cache-Status`. What caches before it say stays in front.
    pub(crate) fn tell(self, response: &mut Response<Body>) {
        let mut text = String::from("witgate");
        // Writing to a string does not fail.
        let _ = match (self.forwarded, self.result) {
            (Some(why), _) => write!(text, "; fwd={why}"),
            (None, CacheResult::Collapsed) => write!(text, "; fwd=miss; collapsed"),
            (None, _) => write!(text, "; hit"),
        };
        if let Some(freshness) = self.freshness {
            let _ = match freshness {
                Ok(left) => write!(text, "; ttl={}", left.as_secs()),
                Err(late) => write!(text, "; ttl=-{}", late.as_secs()),
            };
        }
        if let Some(status) = self.status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if self.stored {
            text.push_str("; stored");
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "; detail={detail}");
        }
        if let Ok(value) = HeaderValue::try_from(text) {
            response.headers_mut().append(CACHE_STATUS, value);
        }
    }
}

/// How often each result was.
#[derive(Debug, Default)]
pub(crate) struct Counts(PerCore<[AtomicU64; CacheResult::ALL.len()]>);

impl Counts {
    pub(crate) fn count(&self, result: CacheResult) {
        per_core::add(&self.0.mine()[result as usize], 1);
    }

    pub(crate) fn of(&self, result: CacheResult) -> u64 {
        self.0.sum(|counts| counts[result as usize].load(std::sync::atomic::Ordering::Relaxed))
    }
}
