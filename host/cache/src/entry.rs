//! A stored response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use witgate_config::model::RouteCache;

use crate::fill::Growing;
use crate::policy::{self, Terms};
use crate::url::Url;
use crate::vary::{self, Selection};

/// Approximate memory of a stored response in addition to its bytes.
const OVERHEAD: usize = 512;

/// Approximate memory of a header field in addition to its bytes.
const FIELD: usize = 64;

/// A stored response, or one that is being stored.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) status: StatusCode,
    /// The fields that are stored.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Content,
    pub(crate) terms: Terms,
    pub(crate) selection: Selection,
    pub(crate) url: Arc<Url>,
    pub(crate) url_hash: u64,
    pub(crate) tags: Vec<String>,
    /// The number of the invalidations and purges that were known when it was asked for. Later ones concern it.
    pub(crate) asked: u64,
    /// Its age when it came.
    initial_age: Duration,
    since: Instant,
    /// Milliseconds from `since` to the purge that made it stale, plus one; 0: there was none.
    purged: AtomicU64,
    /// Whether it is being revalidated in the background.
    refreshing: AtomicBool,
}

/// The body of a stored response.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Whole(Bytes),
    /// A body that is not complete yet.
    Growing(Arc<Growing>),
}

impl Content {
    /// The bytes that it has, or is going to have.
    pub(crate) fn length(&self) -> usize {
        match self {
            Content::Whole(bytes) => bytes.len(),
            Content::Growing(growing) => growing.length,
        }
    }
}

/// What a stored response is made of.
pub(crate) struct Parts<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) terms: Terms,
    pub(crate) selection: Selection,
    pub(crate) url: Arc<Url>,
    pub(crate) asked: u64,
    /// When it came, and how long the request took.
    pub(crate) came: (SystemTime, Duration),
    pub(crate) settings: &'a RouteCache,
}

impl Entry {
    pub(crate) fn new(parts: Parts<'_>, body: Content) -> Entry {
        let (now, delay) = parts.came;
        let mut headers = policy::without_unstored(parts.headers, parts.settings);
        if !headers.contains_key(DATE)
            && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
        {
            // RFC 9110 section 6.6.1.
            headers.insert(DATE, date);
        }
        Entry {
            status: parts.status,
            initial_age: policy::initial_age(parts.headers, now, delay),
            tags: vary::tags(&headers),
            headers,
            body,
            terms: parts.terms,
            selection: parts.selection,
            url_hash: parts.url.hash(),
            url: parts.url,
            asked: parts.asked,
            since: Instant::now(),
            purged: AtomicU64::new(0),
            refreshing: AtomicBool::new(false),
        }
    }

    /// The same response with this body.
    pub(crate) fn with(&self, body: Content) -> Entry {
        Entry {
            status: self.status,
            headers: self.headers.clone(),
            body,
            terms: self.terms.clone(),
            selection: self.selection.clone(),
            url: self.url.clone(),
            url_hash: self.url_hash,
            tags: self.tags.clone(),
            asked: self.asked,
            initial_age: self.initial_age,
            since: self.since,
            purged: AtomicU64::new(self.purged.load(Ordering::Relaxed)),
            refreshing: AtomicBool::new(false),
        }
    }

    /// Its current age (RFC 9111 section 4.2.3).
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.initial_age + now.saturating_duration_since(self.since)
    }

    /// For how long it is still fresh, or else has been stale.
    pub(crate) fn freshness(&self, now: Instant) -> Result<Duration, Duration> {
        let resident = now.saturating_duration_since(self.since);
        let left = match self.purged.load(Ordering::Relaxed) {
            0 => self.terms.lifetime.checked_sub(self.age(now)).filter(|left| !left.is_zero()),
            _ => None,
        };
        left.ok_or_else(|| {
            let late = self.age(now).saturating_sub(self.terms.lifetime);
            match self.purged.load(Ordering::Relaxed) {
                0 => late,
                purged => late.max(resident.saturating_sub(Duration::from_millis(purged - 1))),
            }
        })
    }

    /// Makes it stale from now on.
    pub(crate) fn make_stale(&self) {
        let resident = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        let _ = self.purged.compare_exchange(0, resident + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the caller is to revalidate it in the background: nobody does so yet.
    pub(crate) fn begin_refresh(&self) -> bool {
        !self.refreshing.swap(true, Ordering::Relaxed)
    }

    /// Marks that its revalidation in the background has ended.
    pub(crate) fn end_refresh(&self) {
        self.refreshing.store(false, Ordering::Relaxed);
    }

    /// The memory that it takes.
    pub(crate) fn size(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
        let tags = self.tags.iter().map(|tag| tag.len() + size_of::<String>());
        let url = self.url.size();
        self.body.length()
            + fields.sum::<usize>()
            + tags.sum::<usize>()
            + self.selection.size()
            + url
            + OVERHEAD
    }
}
