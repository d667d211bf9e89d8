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
use crate::collapsing::{Leader, Outcome, Role};
use crate::directives::Directives;
use crate::entry::Entry;
use crate::fetch::Fetch;
use crate::key::{KeyRules, Rights};
use crate::respond::respond;
use crate::status::CacheStatus;
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
enum Lookup {
    /// It is answered.
    Over(Response<Body>),
    /// It concerns nobody else: it is forwarded, for this reason (RFC 9211 section 2.2).
    Pass(&'static str),
    /// It is forwarded, and if it succeeds, what is stored of its URL is invalid.
    Unsafe(Url),
    /// There is no response to use at once.
    Miss(Box<Ask>, Miss),
}

/// What is stored although it cannot be used at once, and why the request is forwarded.
#[derive(Clone)]
pub(crate) struct Miss {
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
            Lookup::Over(response) => MaybeReady::over(Ok(response)),
            Lookup::Pass(why) => MaybeReady::waiting(self.pass(facts, body, why)),
            Lookup::Unsafe(url) => MaybeReady::waiting(self.invalidate(facts, body, url)),
            Lookup::Miss(ask, missed) => MaybeReady::waiting(self.miss(facts, ask, missed)),
        }
    }
}

impl Cached {
    /// Looks for a response without waiting.
    fn look(&self, facts: &mut Facts, body: &Body) -> Lookup {
        // Without its first head it is a message, which bypasses the cache.
        let Some(received) = facts.received.clone() else { return Lookup::Pass("bypass") };
        let method = facts.head.upstream_method.as_ref().unwrap_or(&facts.head.method).clone();
        if !method.is_safe() {
            return Lookup::Unsafe(self.url(facts));
        }
        if facts.head.method != method
            || facts.upgrade.is_some()
            || facts.dialect == Dialect::Grpc
            // What a GET with content means is between client and origin (RFC 9110 section 9.3.1).
            || !body.is_end_stream()
        {
            return Lookup::Pass("bypass");
        }
        if !matches!(method, Method::GET | Method::HEAD) {
            return Lookup::Pass("method");
        }
        self.rules.choose_query(facts);
        let Some(key) = self.rules.key(facts, &received) else { return Lookup::Pass("bypass") };
        let headers = &facts.head.headers;
        let directives = match self.settings.request_directives {
            true => Directives::of_request(headers),
            false => Directives::default(),
        };
        if directives.has("no-store")
            || headers.contains_key(IF_MATCH)
            || headers.contains_key(IF_UNMODIFIED_SINCE)
        {
            return Lookup::Pass("request");
        }
        let ask = Ask::new(key, self.url(facts), method, Arc::clone(&facts.head), directives);
        match self.find(&ask) {
            Ok((entry, used)) => Lookup::Over(self.hit(facts, &ask, &entry, used)),
            Err(_) if ask.only_if_cached() => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                facts.local_response = true;
                Lookup::Over(self.tell(facts, response, CacheStatus::forwarded(CacheResult::Miss, "request")))
            }
            Err(missed) => Lookup::Miss(Box::new(ask), missed),
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
    fn find(&self, ask: &Ask) -> Result<(Arc<Entry>, Use), Miss> {
        let entry = match self.cache.store.find(&ask.key, &ask.head.headers) {
            Found::Nothing => return Err(Miss { entry: None, why: "uri-miss" }),
            Found::Others => return Err(Miss { entry: None, why: "vary-miss" }),
            Found::Entry(entry) => entry,
        };
        match ask.judge(&entry, self.cache.store.is_invalidated(&entry), turn::now()) {
            Use::Never => Err(Miss { entry: None, why: "miss" }),
            Use::Validate(why) => Err(Miss { entry: Some(entry), why }),
            // Without the caller's credentials, the response could be another one.
            Use::Refresh if !self.may_refresh(ask) => Err(Miss { entry: Some(entry), why: "stale" }),
            used => Ok((entry, used)),
        }
    }

    fn hit(&self, facts: &mut Facts, ask: &Ask, entry: &Arc<Entry>, used: Use) -> Response<Body> {
        if used == Use::Refresh {
            self.refresh(facts, ask, entry);
        }
        let result = if used == Use::Fresh { CacheResult::Hit } else { CacheResult::Stale };
        self.stored_response(facts, ask, entry, CacheStatus::new(result))
    }

    /// The response from a stored one.
    pub(crate) fn stored_response(
        &self,
        facts: &mut Facts,
        ask: &Ask,
        entry: &Entry,
        told: CacheStatus,
    ) -> Response<Body> {
        let now = turn::now();
        let response = respond(entry, &ask.method, &ask.head.headers, now);
        facts.local_response = false;
        self.tell(facts, response, CacheStatus { freshness: Some(entry.freshness(now)), ..told })
    }

    /// Says what was done.
    pub(crate) fn tell(
        &self,
        facts: &mut Facts,
        mut response: Response<Body>,
        told: CacheStatus,
    ) -> Response<Body> {
        told.tell(&mut response);
        self.cache.counts.count(told.result);
        facts.record.cache = Some(told.result);
        response
    }

    async fn pass(&self, facts: &mut Facts, body: Body, why: &'static str) -> Result<Response<Body>, Fault> {
        let response = self.inner.serve(facts, body).await?;
        Ok(self.tell(facts, response, CacheStatus::forwarded(CacheResult::Bypass, why)))
    }

    /// Forwards an unsafe request. If it succeeds, what is stored of its URL, and of those that its response names, is
    /// invalid (RFC 9111 section 4.4).
    async fn invalidate(&self, facts: &mut Facts, body: Body, url: Url) -> Result<Response<Body>, Fault> {
        let response = self.inner.serve(facts, body).await?;
        if response.status().is_success() || response.status().is_redirection() {
            url.named_by(response.headers()).for_each(|named| self.cache.store.invalidate(&named));
            self.cache.store.invalidate(&url);
        }
        Ok(self.tell(facts, response, CacheStatus::forwarded(CacheResult::Bypass, "method")))
    }

    /// Forwards a request, or waits for the response to the same request of another client.
    async fn miss(
        &self,
        facts: &mut Facts,
        ask: Box<Ask>,
        mut missed: Miss,
    ) -> Result<Response<Body>, Fault> {
        let alone = ask.method == Method::HEAD
            || ask.is_range() && missed.entry.is_none()
            || ask.wants_new()
            || !self.cache.collapses(&ask.key, ask.rights);
        if alone {
            return self.fetch(facts, Fetch::new(ask, missed, None)).await;
        }
        let until = Instant::now() + self.settings.wait;
        loop {
            let waiting = match self.join(&ask) {
                Role::Wait(waiting) => waiting,
                Role::Leader(leader) => {
                    // Another request may have got its response since the last look.
                    match self.find(&ask) {
                        Ok((entry, used)) => return Ok(self.hit(facts, &ask, &entry, used)),
                        Err(now) => missed = now,
                    }
                    return self.fetch(facts, Fetch::new(ask, missed, Some(leader))).await;
                }
            };
            match self.wait(facts, waiting, until).await? {
                Outcome::Entry(entry) if self.is_usable(&ask, &entry) => {
                    let told = CacheStatus::new(CacheResult::Collapsed);
                    return Ok(self.stored_response(facts, &ask, &entry, told));
                }
                Outcome::Failed(kind) => return self.failed(facts, &ask, &missed, kind),
                Outcome::Stale => {
                    if let Some(response) = self.on_error(facts, &ask, &missed, None) {
                        return Ok(response);
                    }
                    return self.fetch(facts, Fetch::new(ask, missed, None)).await;
                }
                Outcome::Vanished => {}
                Outcome::Entry(_) | Outcome::Alone | Outcome::Pending => {
                    return self.fetch(facts, Fetch::new(ask, missed, None)).await;
                }
            }
        }
    }

    pub(crate) fn join(&self, ask: &Ask) -> Role {
        let restricted = ask.rights == Rights::Restricted;
        self.cache.collapsing.join(&ask.key, restricted)
    }

    /// Waits until the request of another client has an outcome, at most until the request or its route gives up: then `Pending`.
    async fn wait(
        &self,
        facts: &Facts,
        mut waiting: watch::Receiver<Outcome>,
        until: Instant,
    ) -> Result<Outcome, Fault> {
        let deadline = facts.deadline();
        let limit = deadline.map_or(until, |deadline| deadline.min(until));
        let outcome = waiting.wait_for(|outcome| !matches!(outcome, Outcome::Pending));
        match tokio::time::timeout_at(limit.into(), outcome).await {
            Ok(Ok(outcome)) => Ok(outcome.clone()),
            Ok(Err(_)) => Ok(Outcome::Vanished),
            Err(_) if deadline.is_some_and(|deadline| deadline <= until) => {
                let cause = "it waited for the response to the same request of another client";
                Err(Fault::new(FaultKind::RequestTimeout).cause(cause))
            }
            Err(_) => Ok(Outcome::Pending),
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
        missed: &Miss,
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
        missed: &Miss,
        kind: Option<FaultKind>,
    ) -> Option<Response<Body>> {
        let entry = missed.entry.as_ref()?;
        let invalidated = self.cache.store.is_invalidated(entry);
        if !ask.may_use_on_error(entry, invalidated, turn::now()) {
            return None;
        }
        let detail = kind.map(|kind| kind.describe().code);
        let told = CacheStatus { detail, ..CacheStatus::new(CacheResult::Stale) };
        let mut response = self.stored_response(facts, ask, entry, told);
        if let Some(status) = kind.and_then(FaultKind::proxy_status) {
            response.headers_mut().append(PROXY_STATUS, status);
        }
        Some(response)
    }
}

/// A leader, if there is one, tells those who wait.
pub(crate) fn tell(leader: Option<&Leader>, outcome: Outcome) {
    if let Some(leader) = leader {
        leader.tell(outcome);
    }
}
