//! What is done with a request.

use std::sync::Arc;
use std::time::Instant;

use http::header::{IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::watch;
use witgate_config::model::RouteCache;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::destination::Destination;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Dialect, Fault, FaultKind, PROXY_STATUS};
use witgate_exchange::record::CacheResult;
use witgate_exchange::turn;

use crate::Cache;
use crate::ask::{Ask, Use};
use crate::directives::Directives;
use crate::entry::Entry;
use crate::fetch::Errand;
use crate::flight::{Landing, Lead, Seat};
use crate::key::{KeyRules, Rights};
use crate::respond::respond;
use crate::status::Told;
use crate::store::Found;
use crate::url::Url;

/// A destination with a cache in front. Clones share both.
#[derive(Clone)]
pub(crate) struct Cached {
    pub(crate) cache: Arc<Cache>,
    pub(crate) inner: Arc<dyn Destination>,
    pub(crate) rules: Arc<KeyRules>,
    pub(crate) settings: Arc<RouteCache>,
}

/// What a first look says about a request.
enum Look {
    /// It is answered.
    Over(Response<Body>),
    /// It concerns nobody else: it is forwarded, for this reason (RFC 9211 section 2.2).
    Pass(&'static str),
    /// It is forwarded, and if it succeeds, what is stored of its URL is invalid.
    Unsafe(Url),
    /// There is no response to use at once.
    Miss(Box<Ask>, Missed),
}

/// What is stored although it cannot be used at once, and why the request is forwarded.
#[derive(Clone)]
pub(crate) struct Missed {
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) why: &'static str,
}

impl Destination for Cached {
    fn choose(&self, facts: &mut Facts) -> Result<bool, Fault> {
        self.inner.choose(facts)
    }

    fn reads_body(&self) -> bool {
        self.inner.reads_body()
    }

    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        match self.look(facts, &body) {
            Look::Over(response) => MaybeReady::over(Ok(response)),
            Look::Pass(why) => MaybeReady::waiting(self.pass(facts, body, why)),
            Look::Unsafe(url) => MaybeReady::waiting(self.invalidate(facts, body, url)),
            Look::Miss(ask, missed) => MaybeReady::waiting(self.miss(facts, ask, missed)),
        }
    }
}

impl Cached {
    /// Looks for a response without waiting.
    fn look(&self, facts: &mut Facts, body: &Body) -> Look {
        // Without its first head it is a message, which bypasses the cache.
        let Some(received) = facts.received.clone() else { return Look::Pass("bypass") };
        let method = facts.head.upstream_method.as_ref().unwrap_or(&facts.head.method).clone();
        if !method.is_safe() {
            return Look::Unsafe(self.url(facts));
        }
        if facts.head.method != method
            || facts.upgrade.is_some()
            || facts.dialect == Dialect::Grpc
            // What a GET with content means is between client and origin (RFC 9110 section 9.3.1).
            || !body.is_end_stream()
        {
            return Look::Pass("bypass");
        }
        if !matches!(method, Method::GET | Method::HEAD) {
            return Look::Pass("method");
        }
        self.rules.choose_query(facts);
        let Some(key) = self.rules.key(facts, &received) else { return Look::Pass("bypass") };
        let headers = &facts.head.headers;
        let directives = match self.settings.request_directives {
            true => Directives::of_request(headers),
            false => Directives::default(),
        };
        if directives.has("no-store") || headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE)
        {
            return Look::Pass("request");
        }
        let ask = Ask::new(key, self.url(facts), method, Arc::clone(&facts.head), directives);
        match self.find(&ask) {
            Ok((entry, used)) => Look::Over(self.hit(facts, &ask, &entry, used)),
            Err(_) if ask.only_if_cached() => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                facts.local_response = true;
                Look::Over(self.tell(facts, response, Told::forwarded(CacheResult::Miss, "request")))
            }
            Err(missed) => Look::Miss(Box::new(ask), missed),
        }
    }

    /// The URL of a request as its client knows it; where the route chooses the query, with that query.
    fn url(&self, facts: &Facts) -> Url {
        let head = &facts.head;
        let scheme = head.scheme.as_str();
        match &head.upstream_target {
            Some(sent) if self.settings.query.is_some() => {
                let query = sent.query().map_or_else(String::new, |query| format!("?{query}"));
                Url::new(scheme, &head.authority, &format!("{}{query}", head.path()))
            }
            _ => Url::new(scheme, &head.authority, head.target.as_str()),
        }
    }

    /// The stored response that may be used now, or what there is instead.
    fn find(&self, ask: &Ask) -> Result<(Arc<Entry>, Use), Missed> {
        let entry = match self.cache.store.find(&ask.key, &ask.head.headers) {
            Found::Nothing => return Err(Missed { entry: None, why: "uri-miss" }),
            Found::Others => return Err(Missed { entry: None, why: "vary-miss" }),
            Found::Entry(entry) => entry,
        };
        match ask.judge(&entry, self.cache.store.is_invalidated(&entry), turn::now()) {
            Use::Never => Err(Missed { entry: None, why: "miss" }),
            Use::Validate(why) => Err(Missed { entry: Some(entry), why }),
            // Without the caller's credentials, the response could be another one.
            Use::Refresh if !self.may_refresh(ask) => Err(Missed { entry: Some(entry), why: "stale" }),
            used => Ok((entry, used)),
        }
    }

    fn hit(&self, facts: &mut Facts, ask: &Ask, entry: &Arc<Entry>, used: Use) -> Response<Body> {
        if used == Use::Refresh {
            self.refresh(facts, ask, entry);
        }
        let result = if used == Use::Fresh { CacheResult::Hit } else { CacheResult::Stale };
        self.from_entry(facts, ask, entry, Told::new(result))
    }

    /// The response from a stored one.
    pub(crate) fn from_entry(&self, facts: &mut Facts, ask: &Ask, entry: &Entry, told: Told) -> Response<Body> {
        let now = turn::now();
        let response = respond(entry, &ask.method, &ask.head.headers, now);
        facts.local_response = false;
        self.tell(facts, response, Told { freshness: Some(entry.freshness(now)), ..told })
    }

    /// Says what was done.
    pub(crate) fn tell(&self, facts: &mut Facts, mut response: Response<Body>, told: Told) -> Response<Body> {
        told.tell(&mut response);
        self.cache.counts.count(told.result);
        facts.record.cache = Some(told.result);
        response
    }

    async fn pass(&self, facts: &mut Facts, body: Body, why: &'static str) -> Result<Response<Body>, Fault> {
        let response = self.inner.serve(facts, body).await?;
        Ok(self.tell(facts, response, Told::forwarded(CacheResult::Bypass, why)))
    }

    /// Forwards an unsafe request. If it succeeds, what is stored of its URL, and of those that its response names, is
    /// invalid (RFC 9111 section 4.4).
    async fn invalidate(&self, facts: &mut Facts, body: Body, url: Url) -> Result<Response<Body>, Fault> {
        let response = self.inner.serve(facts, body).await?;
        if response.status().is_success() || response.status().is_redirection() {
            url.named_by(response.headers()).for_each(|named| self.cache.store.invalidate(&named));
            self.cache.store.invalidate(&url);
        }
        Ok(self.tell(facts, response, Told::forwarded(CacheResult::Bypass, "method")))
    }

    /// Forwards a request, or waits for the response to the same request of another client.
    async fn miss(
        &self,
        facts: &mut Facts,
        ask: Box<Ask>,
        mut missed: Missed,
    ) -> Result<Response<Body>, Fault> {
        let alone = ask.method == Method::HEAD
            || ask.is_range() && missed.entry.is_none()
            || ask.wants_new()
            || !self.cache.collapses(&ask.key, ask.rights);
        if alone {
            return self.fetch(facts, Errand::new(ask, missed, None)).await;
        }
        let until = Instant::now() + self.settings.wait;
        loop {
            let waiting = match self.join(&ask) {
                Seat::Wait(waiting) => waiting,
                Seat::Lead(lead) => {
                    // Another request may have landed since the last look.
                    match self.find(&ask) {
                        Ok((entry, used)) => return Ok(self.hit(facts, &ask, &entry, used)),
                        Err(now) => missed = now,
                    }
                    return self.fetch(facts, Errand::new(ask, missed, Some(lead))).await;
                }
            };
            match self.wait(facts, waiting, until).await? {
                Landing::Entry(entry) if self.is_usable(&ask, &entry) => {
                    let told = Told::new(CacheResult::Collapsed);
                    return Ok(self.from_entry(facts, &ask, &entry, told));
                }
                Landing::Failed(kind) => return self.failed(facts, &ask, &missed, kind),
                Landing::Stale => {
                    if let Some(response) = self.on_error(facts, &ask, &missed, None) {
                        return Ok(response);
                    }
                    return self.fetch(facts, Errand::new(ask, missed, None)).await;
                }
                Landing::Vanished => {}
                Landing::Entry(_) | Landing::Alone | Landing::Pending => {
                    return self.fetch(facts, Errand::new(ask, missed, None)).await;
                }
            }
        }
    }

    pub(crate) fn join(&self, ask: &Ask) -> Seat {
        let restricted = ask.rights == Rights::Restricted;
        self.cache.flights.join(&ask.key, restricted)
    }

    /// Waits until another request has landed, at most until the request or its route gives up: then `Pending`.
    async fn wait(
        &self,
        facts: &Facts,
        mut waiting: watch::Receiver<Landing>,
        until: Instant,
    ) -> Result<Landing, Fault> {
        let deadline = facts.deadline();
        let limit = deadline.map_or(until, |deadline| deadline.min(until));
        let landed = waiting.wait_for(|landing| !matches!(landing, Landing::Pending));
        match tokio::time::timeout_at(limit.into(), landed).await {
            Ok(Ok(landing)) => Ok(landing.clone()),
            Ok(Err(_)) => Ok(Landing::Vanished),
            Err(_) if deadline.is_some_and(|deadline| deadline <= until) => {
                let cause = "it waited for the response to the same request of another client";
                Err(Fault::new(FaultKind::RequestTimeout).cause(cause))
            }
            Err(_) => Ok(Landing::Pending),
        }
    }

    /// Whether a response that has just come for another request may be used for this one.
    fn is_usable(&self, ask: &Ask, entry: &Entry) -> bool {
        let invalidated = self.cache.store.is_invalidated(entry);
        entry.selection.fits(&ask.head.headers)
            && !self.cache.store.is_purged(entry)
            && matches!(ask.judge(entry, invalidated, turn::now()), Use::Fresh | Use::Stale)
    }

    /// The upstream has failed for the request that this one waited for.
    fn failed(
        &self,
        facts: &mut Facts,
        ask: &Ask,
        missed: &Missed,
        kind: FaultKind,
    ) -> Result<Response<Body>, Fault> {
        let cause = "the upstream failed for the same request of another client, for which this one waited";
        match self.on_error(facts, ask, missed, Some(kind)) {
            Some(response) => Ok(response),
            None => Err(Fault::new(kind).cause(cause)),
        }
    }

    /// The stale response that may be used because the upstream fails.
    pub(crate) fn on_error(
        &self,
        facts: &mut Facts,
        ask: &Ask,
        missed: &Missed,
        kind: Option<FaultKind>,
    ) -> Option<Response<Body>> {
        let entry = missed.entry.as_ref()?;
        let invalidated = self.cache.store.is_invalidated(entry);
        if !ask.may_use_on_error(entry, invalidated, turn::now()) {
            return None;
        }
        let detail = kind.map(|kind| kind.describe().code);
        let told = Told { detail, ..Told::new(CacheResult::Stale) };
        let mut response = self.from_entry(facts, ask, entry, told);
        if let Some(status) = kind.and_then(FaultKind::proxy_status) {
            response.headers_mut().append(PROXY_STATUS, status);
        }
        Some(response)
    }
}

/// A lead, if there is one, tells those who wait.
pub(crate) fn tell(lead: Option<&Lead>, landing: Landing) {
    if let Some(lead) = lead {
        lead.tell(landing);
    }
}
