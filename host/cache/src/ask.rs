//! A request as the cache sees it, and whether a stored response may be used for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use witgate_exchange::head::RequestHead;

use crate::directives::Directives;
use crate::entry::Entry;
use crate::key::{Key, Rights};
use crate::url::Url;

/// A request that may be answered from the cache.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) key: Key,
    pub(crate) rights: Rights,
    pub(crate) url: Arc<Url>,
    /// GET or HEAD.
    pub(crate) method: Method,
    /// The head as it is when the request comes to the cache.
    pub(crate) head: Arc<RequestHead>,
    directives: Directives,
}

/// Whether a stored response may be used for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// As it is.
    Fresh,
    /// Although it is stale, because the client accepts that.
    Stale,
    /// Although it is stale, while it is revalidated in the background.
    Refresh,
    /// Once it is validated, for this reason (RFC 9211 section 2.2).
    Validate(&'static str),
    /// Never.
    Never,
}

impl Ask {
    pub(crate) fn new(
        (key, rights): (Key, Rights),
        url: Url,
        method: Method,
        head: Arc<RequestHead>,
        directives: Directives,
    ) -> Ask {
        Ask { key, rights, url: Arc::new(url), method, head, directives }
    }

    /// The same request as it is sent in the background, with this head.
    pub(crate) fn in_background(&self, head: Arc<RequestHead>) -> Ask {
        Ask {
            key: self.key.clone(),
            rights: self.rights,
            url: Arc::clone(&self.url),
            method: Method::GET,
            head,
            directives: Directives::default(),
        }
    }

    /// Whether only a stored response is wanted (RFC 9111 section 5.2.1.7).
    pub(crate) fn only_if_cached(&self) -> bool {
        self.directives.has("only-if-cached")
    }

    /// Whether the client wants a response of the upstream.
    pub(crate) fn wants_new(&self) -> bool {
        self.directives.has("no-cache") || self.directives.seconds("max-age") == Some(Duration::ZERO)
    }

    /// Whether it asks for a part.
    pub(crate) fn is_range(&self) -> bool {
        self.head.headers.contains_key(RANGE)
    }

    /// Whether it has a condition under which the client needs no content.
    pub(crate) fn is_conditional(&self) -> bool {
        let headers = &self.head.headers;
        headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE)
    }

    /// Whether a stored response may be used (RFC 9111 section 4).
    pub(crate) fn judge(&self, entry: &Entry, invalidated: bool, now: Instant) -> Use {
        if self.rights == Rights::Restricted && !entry.terms.is_for_all {
            return Use::Never;
        }
        if invalidated || entry.terms.no_cache {
            return Use::Validate("stale");
        }
        let too_old = self.directives.seconds("max-age").is_some_and(|most| entry.age(now) > most);
        if self.wants_new() || too_old {
            return Use::Validate("request");
        }
        match entry.freshness(now) {
            Ok(left) => match self.directives.seconds("min-fresh") {
                Some(least) if left < least => Use::Validate("request"),
                _ => Use::Fresh,
            },
            Err(_) if entry.terms.must_revalidate => Use::Validate("stale"),
            Err(late) if self.directives.seconds_or_endless("max-stale").is_some_and(|most| late <= most) => {
                Use::Stale
            }
            Err(late) if late < entry.terms.stale_while_revalidate => Use::Refresh,
            Err(_) => Use::Validate("stale"),
        }
    }

    /// Whether a stored response may be used because the upstream fails (RFC 5861 section 4).
    pub(crate) fn may_use_on_error(&self, entry: &Entry, invalidated: bool, now: Instant) -> bool {
        let late = entry.freshness(now).err().unwrap_or_default();
        self.rights_allow(entry)
            && !invalidated
            && !entry.terms.must_revalidate
            && !entry.terms.no_cache
            && late < entry.terms.stale_if_error
    }

    fn rights_allow(&self, entry: &Entry) -> bool {
        self.rights != Rights::Restricted || entry.terms.is_for_all
    }
}
