//! The request to the wrapped destination, and what is done with its response.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use witgate_exchange::body::Body;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Blame, Fault, FaultKind};
use witgate_exchange::record::CacheResult;

use crate::Cache;
use crate::ask::Ask;
use crate::collapsing::{Leader, Outcome};
use crate::destination::{Cached, Miss, tell};
use crate::entry::{Content, Entry, Parts};
use crate::fill::{Growing, GrowingReader, OpenReader, Remainder, Reservation, pump, pump_open};
use crate::key::Rights;
use crate::policy::{self, Circumstances, Terms};
use crate::respond::{is_not_modified, not_modified};
use crate::status::CacheStatus;
use crate::vary::Selection;

/// A request that is sent to the wrapped destination.
pub(crate) struct Fetch {
    ask: Box<Ask>,
    missed: Miss,
    /// Whether others wait for it.
    leader: Option<Leader>,
}

impl Fetch {
    pub(crate) fn new(ask: Box<Ask>, missed: Miss, leader: Option<Leader>) -> Fetch {
        Fetch { ask, missed, leader }
    }

    /// The stored response that is to be validated.
    fn validated(&self) -> Option<&Arc<Entry>> {
        let entry = self.missed.entry.as_ref().filter(|_| self.ask.method == Method::GET)?;
        policy::has_validator(&entry.headers).then_some(entry)
    }
}

/// When a request was sent.
struct Sent {
    /// The purges and invalidations that were known.
    asked: u64,
    at: Instant,
}

impl Cached {
    /// Sends a request to the wrapped destination, with the validators of what is stored (RFC 9111 section 4.3.1).
    pub(crate) async fn fetch(&self, facts: &mut Facts, fetch: Fetch) -> Result<Response<Body>, Fault> {
        let sent = Sent { asked: self.cache.store.asked(), at: Instant::now() };
        let before = Arc::clone(&facts.head);
        self.condition(facts, &fetch);
        let served = self.inner.serve(facts, Body::Empty).await;
        // Later stages see the request as it came.
        facts.head = before;
        match served {
            Ok(response) if response.status() == StatusCode::NOT_MODIFIED && fetch.validated().is_some() => {
                Ok(self.freshen(facts, fetch, &response, &sent))
            }
            Ok(response) => Ok(self.received(facts, fetch, response, &sent)),
            Err(fault) => self.fault(facts, &fetch, fault),
        }
    }

    /// Replaces the conditions of the client by those of the cache, which needs the whole response. The client's are looked
    /// at when the response is there.
    fn condition(&self, facts: &mut Facts, fetch: &Fetch) {
        let ask = &fetch.ask;
        let validated = fetch.validated();
        if validated.is_none() && (fetch.leader.is_none() || ask.is_range() || !ask.is_conditional()) {
            return;
        }
        let headers = &mut Arc::make_mut(&mut facts.head).headers;
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
            headers.remove(name);
        }
        let Some(entry) = validated else { return };
        if let Some(etag) = entry.headers.get(ETAG) {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        if let Some(modified) = entry.headers.get(LAST_MODIFIED) {
            headers.insert(IF_MODIFIED_SINCE, modified.clone());
        }
    }

    /// The destination has failed.
    fn fault(&self, facts: &mut Facts, fetch: &Fetch, fault: Fault) -> Result<Response<Body>, Fault> {
        let of_upstream = fault.kind.describe().blame == Blame::Upstream && !fault.by_request;
        let Fetch { ask, missed, leader } = fetch;
        if !of_upstream {
            return Err(fault);
        }
        if fault.kind != FaultKind::RequestTimeout {
            // That would be the deadline of this request, which may be its client's choice. Others have their own.
            tell(leader.as_ref(), Outcome::Failed(fault.kind));
        }
        self.on_error(facts, ask, missed, Some(fault.kind)).ok_or(fault)
    }

    /// The upstream says that a stored response is still valid (RFC 9111 section 4.3.4).
    fn freshen(
        &self,
        facts: &mut Facts,
        fetch: Fetch,
        response: &Response<Body>,
        sent: &Sent,
    ) -> Response<Body> {
        let Fetch { ask, missed, leader } = fetch;
        let Some(entry) = missed.entry else { return Response::new(Body::Empty) };
        let headers = updated(&entry.headers, response.headers());
        let came = (SystemTime::now(), sent.at.elapsed());
        let terms = self.terms(&ask, entry.status, &headers, came.0);
        let stored = terms.is_some();
        let parts = Parts {
            status: entry.status,
            headers: &headers,
            terms: terms.unwrap_or_else(|| entry.terms.clone()),
            selection: entry.selection.clone(),
            url: entry.url.clone(),
            asked: sent.asked,
            came,
            settings: &self.settings,
        };
        let fresh = Arc::new(Entry::new(parts, entry.body.clone()));
        if stored {
            self.cache.store.insert(&ask.key, &ask.head.headers, Arc::clone(&fresh));
            tell(leader.as_ref(), Outcome::Entry(Arc::clone(&fresh)));
        } else {
            self.cache.store.remove(&ask.key, &entry);
            tell(leader.as_ref(), Outcome::Alone);
        }
        let told = CacheStatus {
            status: Some(304),
            stored,
            ..CacheStatus::forwarded(CacheResult::Revalidated, missed.why)
        };
        self.stored_response(facts, &ask, &fresh, told)
    }

    /// A response has come that is no validation.
    fn received(
        &self,
        facts: &mut Facts,
        fetch: Fetch,
        response: Response<Body>,
        sent: &Sent,
    ) -> Response<Body> {
        // The response of a fallback is not that of the upstream in the key.
        let asked = facts.record.endpoint.as_ref().map(|(upstream, _)| upstream);
        let foreign = asked.is_some_and(|asked| facts.upstream.as_ref() != Some(asked));
        let failed = facts.local_response || is_error(response.status());
        if failed && let Some(stale) = self.on_error(facts, &fetch.ask, &fetch.missed, None) {
            tell(fetch.leader.as_ref(), Outcome::Stale);
            return stale;
        }
        let told = CacheStatus::forwarded(CacheResult::Miss, fetch.missed.why);
        if facts.local_response || foreign || fetch.ask.method == Method::HEAD {
            tell(fetch.leader.as_ref(), Outcome::Alone);
            return self.tell(facts, response, told);
        }
        let conditional = fetch.validated().is_some() || fetch.leader.is_some();
        let ask = fetch.ask.clone();
        let (mut response, stored) = self.keep(fetch, response, sent);
        let is_whole = response.status() == StatusCode::OK;
        if conditional && is_whole && is_not_modified(response.headers(), &ask.head.headers) {
            not_modified(&mut response);
        }
        self.tell(facts, response, CacheStatus { stored, ..told })
    }

    fn terms(&self, ask: &Ask, status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Terms> {
        let restricted = ask.rights == Rights::Restricted;
        policy::terms(status, headers, Circumstances { settings: &self.settings, restricted, now })
    }

    /// Stores a response, if it may be stored. Returns it, and whether it is stored.
    fn keep(&self, fetch: Fetch, mut response: Response<Body>, sent: &Sent) -> (Response<Body>, bool) {
        let (cache, ask) = (&self.cache, &fetch.ask);
        let came = (SystemTime::now(), sent.at.elapsed());
        let terms = self.terms(ask, response.status(), response.headers(), came.0);
        let selection = Selection::new(response.headers(), &ask.head.headers);
        let (Some(terms), Some(selection)) = (terms, selection) else {
            tell(fetch.leader.as_ref(), Outcome::Alone);
            cache.note_unstored(&ask.key, ask.rights);
            if let Some(before) = fetch.missed.entry.as_ref().filter(|_| !is_error(response.status())) {
                // The upstream has responded in another way, so the stored response must not be used again, not even if
                // the upstream fails.
                cache.store.remove(&ask.key, before);
            }
            return (response, false);
        };
        let parts = Parts {
            status: response.status(),
            headers: response.headers(),
            terms,
            selection,
            url: ask.url.clone(),
            asked: sent.asked,
            came,
            settings: &self.settings,
        };
        let entry = Entry::new(parts, Content::Whole(Bytes::new()));
        let body = std::mem::take(response.body_mut());
        let kept = Keeping { cache: Arc::clone(cache), entry, fetch };
        let (body, stored) = kept.body(body);
        *response.body_mut() = body;
        (response, stored)
    }
}

/// A response that is being stored.
struct Keeping {
    cache: Arc<Cache>,
    /// The response without its body.
    entry: Entry,
    fetch: Fetch,
}

impl Keeping {
    /// Stores the response with this body, at once or while it passes. Returns the body for the client, and whether the
    /// response is stored.
    fn body(self, body: Body) -> (Body, bool) {
        let most = self.cache.settings.object;
        let hint = body.size_hint();
        if hint.lower() > most as u64 {
            self.give_up();
            return (body, false);
        }
        match body {
            Body::Empty => self.store(Bytes::new()),
            // A copy, because the received bytes would keep the whole buffer in which they arrived.
            Body::Full(ref bytes) => self.store(Bytes::copy_from_slice(bytes)),
            body => return self.stream(body, hint.exact().map(|length| length as usize)),
        }
        (body, true)
    }

    /// Stores a body that comes bit by bit.
    fn stream(self, body: Body, length: Option<usize>) -> (Body, bool) {
        let cache = Arc::clone(&self.cache);
        let Some(reservation) = cache.budget.reserve(length.unwrap_or(0)) else {
            self.give_up();
            return (body, false);
        };
        let Some(length) = length else { return (self.stream_open(body, reservation), true) };
        let growing = Growing::new(length);
        let entry = Arc::new(self.entry.with(Content::Growing(Arc::clone(&growing))));
        tell(self.fetch.leader.as_ref(), Outcome::Entry(entry));
        let reader = GrowingReader::new(Arc::clone(&growing));
        tokio::task::spawn_local(async move {
            // The memory is counted until it is that of a stored response.
            let _reservation = reservation;
            match pump(body, growing).await {
                Some(bytes) => self.store(bytes),
                None => self.give_up(),
            }
        });
        (Body::wrap(reader), true)
    }

    /// Stores a body of unknown length. Others wait until it is complete, because it may turn out to be too large.
    fn stream_open(self, body: Body, mut reservation: Reservation) -> Body {
        let most = self.cache.settings.object;
        let (growing, rest) = (Growing::open(), Remainder::default());
        let reader = OpenReader::new(Arc::clone(&growing), Remainder::clone(&rest));
        tokio::task::spawn_local(async move {
            match pump_open(body, growing, rest, most, &mut reservation).await {
                Some(bytes) => self.store(bytes),
                None => self.give_up(),
            }
        });
        Body::wrap(reader)
    }

    fn store(self, body: Bytes) {
        let Keeping { cache, entry, fetch } = self;
        let entry = Arc::new(entry.with(Content::Whole(body)));
        cache.store.insert(&fetch.ask.key, &fetch.ask.head.headers, Arc::clone(&entry));
        cache.note_stored(&fetch.ask.key, fetch.ask.rights);
        tell(fetch.leader.as_ref(), Outcome::Entry(entry));
    }

    /// The response is not stored: whoever waits goes by itself.
    fn give_up(self) {
        self.cache.note_unstored(&self.fetch.ask.key, self.fetch.ask.rights);
        tell(self.fetch.leader.as_ref(), Outcome::Alone);
    }
}

/// Statuses that say that the upstream fails (RFC 5861 section 4).
fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// The stored header fields, updated by those of a response that validates them. What describes the stored content stays as
/// it is (RFC 9111 section 3.2); so does `ETag`, because the request named no other one.
fn updated(stored: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    let describes = |name: &http::HeaderName| {
        [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG].contains(name)
            || name.as_str() == "content-md5"
    };
    for name in fresh.keys().filter(|name| !describes(name)) {
        headers.remove(name);
        for value in fresh.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// The longest time that a revalidation in the background may take.
pub(crate) const LONGEST_REFRESH: Duration = Duration::from_secs(60);
