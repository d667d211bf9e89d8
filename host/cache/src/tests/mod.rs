//! Tests of the cache in front of an origin that the test scripts.

mod attacks;
mod collapsing;
mod freshness;
mod ranges;
mod removal;
mod stale;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use witgate_config::model::{self, RouteCache, SetCookie, Share};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::destination::Destination;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::{ClientCertificate, RequestHead};
use witgate_exchange::identity::Identity;
use witgate_exchange::testing;

use crate::Cache;

/// The settings of a route with `cache = {}`.
pub(crate) fn settings() -> RouteCache {
    RouteCache {
        share: Share::Explicit,
        query: None,
        headers: Vec::new(),
        set_cookie: SetCookie::Refuse,
        lifetimes: BTreeMap::new(),
        heuristics: true,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        request_directives: true,
        wait: Duration::from_secs(5),
    }
}

/// What the origin does with a request.
pub(crate) type Script = Box<dyn Fn(&Facts) -> Result<Response<Body>, Fault> + Send + Sync>;

/// An origin that a test scripts.
pub(crate) struct Origin {
    script: Script,
    asked: AtomicUsize,
    /// How many turns of the runtime it takes to respond.
    delay: Duration,
}

impl Destination for Origin {
    fn choose(&self, facts: &mut Facts) -> Result<bool, Fault> {
        facts.upstream = Some("origin".into());
        Ok(true)
    }

    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        _body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        MaybeReady::waiting(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
            (self.script)(facts)
        })
    }
}

/// A cache in front of an origin.
pub(crate) struct Scene {
    pub(crate) cache: Arc<Cache>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) destination: Arc<dyn Destination>,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl TestResponse {
    /// The last element of `Cache-Status`.
    pub(crate) fn told(&self) -> &str {
        let values = self.headers.get_all("cache-status");
        values.iter().next_back().map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.told().starts_with("witgate; hit")
    }
}

/// A request.
#[derive(Clone)]
pub(crate) struct TestRequest {
    pub(crate) head: RequestHead,
    pub(crate) received: Option<RequestHead>,
    pub(crate) upstream: &'static str,
    pub(crate) body: &'static str,
    pub(crate) timeout: Option<Duration>,
}

impl TestRequest {
    pub(crate) fn new(method: Method, target: &str, headers: &[(&str, &str)]) -> TestRequest {
        let mut head = testing::head(method, target, headers);
        head.route = Some("a-route".into());
        TestRequest { head, received: None, upstream: "origin", body: "", timeout: None }
    }

    pub(crate) fn by(mut self, subject: &str, claims: &[(&str, &str)]) -> TestRequest {
        let claims = claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.head.identity =
            Some(Arc::new(Identity { subject: subject.to_owned(), claims, binding: "jwt".into() }));
        self
    }

    pub(crate) fn with_certificate(mut self, fingerprint: &str) -> TestRequest {
        let (subject, names) = ("CN=a".to_owned(), Vec::new());
        self.head.client.certificate = Some(Arc::new(ClientCertificate {
            subject,
            names,
            fingerprint: fingerprint.to_owned(),
            ..Default::default()
        }));
        self
    }

    /// The gateway adds or changes a header before the request comes to the cache.
    pub(crate) fn added(mut self, name: &'static str, value: &str) -> TestRequest {
        self.received.get_or_insert_with(|| self.head.clone());
        self.head.headers.insert(HeaderName::from_static(name), value.parse().expect("a value"));
        self
    }

    fn facts(&self) -> Facts {
        let mut facts = testing::facts(self.head.clone());
        facts.received = Some(match &self.received {
            Some(received) => Arc::new(received.clone()),
            None => Arc::clone(&facts.head),
        });
        facts.upstream = Some(self.upstream.into());
        facts.limit_time(self.timeout);
        facts
    }
}

/// A GET of this target.
pub(crate) fn get(target: &str) -> TestRequest {
    TestRequest::new(Method::GET, target, &[])
}

/// A GET of `/` with these headers.
pub(crate) fn with(headers: &[(&str, &str)]) -> TestRequest {
    TestRequest::new(Method::GET, "/", headers)
}

impl Scene {
    pub(crate) fn new(settings: &RouteCache, script: Script) -> Scene {
        Scene::slow(settings, Duration::ZERO, script)
    }

    pub(crate) fn slow(settings: &RouteCache, delay: Duration, script: Script) -> Scene {
        let cache = Cache::new(model::Cache { memory: 4 << 20, object: 128 << 10 });
        let origin = Arc::new(Origin { script, asked: AtomicUsize::new(0), delay });
        let inner = Arc::clone(&origin) as Arc<dyn Destination>;
        let destination = cache.wrap(inner, settings, &[HeaderName::from_static("x-auth-subject")]);
        Scene { cache, origin, destination }
    }

    /// How often the origin was asked.
    pub(crate) fn asked(&self) -> usize {
        self.origin.asked.load(Ordering::SeqCst)
    }

    pub(crate) async fn send(&self, asked: &TestRequest) -> Result<TestResponse, Fault> {
        let mut facts = asked.facts();
        let body = Body::from(bytes::Bytes::from_static(asked.body.as_bytes()));
        let response = self.destination.serve(&mut facts, body).await?;
        let (parts, body) = response.into_parts();
        let body = testing::bytes(body).await.unwrap_or_else(|error| format!("broken: {error}").into());
        Ok(TestResponse {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    pub(crate) async fn ask(&self, asked: &TestRequest) -> TestResponse {
        self.send(asked).await.unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Asks twice, and returns whether the second response came from the cache.
    pub(crate) async fn reuses(&self, first: &TestRequest, second: &TestRequest) -> bool {
        self.ask(first).await;
        self.ask(second).await.is_hit()
    }
}

/// An origin that gives the same response to every request; its body is the number of the request.
pub(crate) fn always(headers: &[(&'static str, &str)]) -> Script {
    status(200, headers)
}

/// As [`always`], with this status.
pub(crate) fn status(status: u16, headers: &[(&'static str, &str)]) -> Script {
    let headers: Vec<(&'static str, String)> =
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let count = AtomicUsize::new(0);
    Box::new(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut response = testing::response(&headers, format!("answer {number}"));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        Ok(response)
    })
}

/// An origin that gives these responses in their order, and the last one for ever.
pub(crate) fn in_order(scripts: Vec<Script>) -> Script {
    let count = AtomicUsize::new(0);
    Box::new(move |facts| {
        let number = count.fetch_add(1, Ordering::SeqCst).min(scripts.len() - 1);
        scripts[number](facts)
    })
}

/// The upstream fails.
pub(crate) fn fails(kind: FaultKind) -> Script {
    Box::new(move |_| Err(Fault::new(kind)))
}

/// A date this many seconds from now.
pub(crate) fn date(seconds: i64) -> String {
    let now = std::time::SystemTime::now();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    httpdate::fmt_http_date(if seconds < 0 { now - distance } else { now + distance })
}

thread_local! {
    /// What an origin noted of the requests that it got.
    pub(crate) static NOTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}
