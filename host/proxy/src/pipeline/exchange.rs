//! One request and its response, with all that belongs to them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderName, HeaderValue, Method, Response, Version};

use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::filters::cors;
use crate::head::RequestHead;
use crate::protocol::connection::Connection;
use crate::protocol::http1::field;
use crate::protocol::upgrade::Side;
use crate::router::{Found, Route, Router};
use crate::snapshot::Snapshot;
use crate::telemetry::record::Record;
use crate::telemetry::request_guard;
use crate::telemetry::route_series::RouteSeries;
use crate::telemetry::trace::REQUEST_ID;

/// What the stages share about one request. Lives on one core and never outlives its response.
pub struct Exchange {
    /// The connection it came on.
    pub connection: Rc<Connection>,
    /// The one version of everything this request sees.
    pub snapshot: Arc<Snapshot>,
    /// The head. Plugins hold clones only while they are called, so `Arc::make_mut` does not copy in practice.
    pub head: Arc<RequestHead>,
    /// The route, once chosen.
    pub route: Option<Arc<Route>>,
    /// Where requests of the route are counted, once it is chosen.
    pub series: Option<Arc<RouteSeries>>,
    /// When the request head was complete.
    pub begun: Instant,
    /// The shortest of the route's and the plugins' timeouts.
    pub timeout: Option<Duration>,
    /// How long a stage wants the request to wait before it is forwarded or answered.
    pub delay: Option<Duration>,
    /// The version of HTTP the client spoke.
    pub version: Version,
    /// The protocol the client asks to switch to (`Upgrade`), if the gateway is willing to forward that.
    pub upgrade: Option<HeaderValue>,
    /// The upstream's side of the tunnel, once its endpoint has answered 101.
    pub upstream_side: Option<Side>,
    /// The upstream to forward to, once decided.
    pub upstream: Option<Arc<str>>,
    /// The key for hashing balancers.
    pub hash_key: Option<Bytes>,
    /// Headers that stages on the way down want on the response (rate limits, cookies of authentication…).
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Bindings of the transformation contract that took part, with their contexts, in the order of the way down.
    pub transformations: Vec<Transformed>,
    /// How many edge and origin filters were entered on the way down; only those see the response.
    pub filters_entered: usize,
    /// Whether the response in hand was made by the gateway or a plugin.
    pub local_response: bool,
    /// What the access log, the metrics and the span will say.
    pub record: Record,
}

/// A transformation binding that saw the request.
pub struct Transformed {
    /// Index into the route's transformation bindings.
    pub binding: usize,
    /// Its opaque context.
    pub context: Context,
}

/// What a transformation binding hands from each of its calls to the next. Shared with bodies that still call it while
/// they stream; the call that ended last has the word.
#[derive(Debug, Clone, Default)]
pub struct Context(Rc<RefCell<Bytes>>);

impl Context {
    /// A context of its own.
    pub fn new(bytes: Bytes) -> Self {
        Context(Rc::new(RefCell::new(bytes)))
    }

    /// The bytes.
    pub fn get(&self) -> Bytes {
        self.0.borrow().clone()
    }

    /// Replaces the bytes.
    pub fn set(&self, bytes: Bytes) {
        self.0.replace(bytes);
    }
}

impl Exchange {
    /// Chooses the route, once, and notes its parameters in the head.
    ///
    /// # Errors
    /// `NoRoute`, or `MethodNotAllowed` with `Allow` if only the method stood in the way.
    pub fn choose_route(&mut self) -> Result<(), Fault> {
        let find =
            |router: &Router| of_preflight(router, &self.head).unwrap_or_else(|| router.find(&self.head));
        let router = self.snapshot.routers.get(&*self.connection.listener);
        let found = router.map_or(Found::Nothing, find);
        match found {
            Found::Route(route, parameters) => {
                let head = Arc::make_mut(&mut self.head);
                head.route = Some(route.name.clone());
                head.parameters = parameters;
                self.series = Some(route.series.clone());
                self.timeout = route.config.timeout;
                self.route = Some(route);
                Ok(())
            }
            Found::OtherMethods(methods) => Err(other_methods(&methods)),
            Found::Nothing => Err(Fault::new(FaultKind::NoRoute)),
        }
    }

    /// Counts the request among those in flight on its route until its record is written.
    pub fn count_in_flight(&mut self) {
        let Some(series) = &self.series else { return };
        let Connection { telemetry, listener, .. } = &*self.connection;
        series.in_flight(telemetry.metrics(), listener, 1);
        self.record.in_flight = true;
    }

    /// Turns a fault into the response that tells the client (RFC 9457, RFC 9209), and notes it in the record.
    pub fn fault(&mut self, mut fault: Fault) -> Response<Body> {
        self.local_response = true;
        self.record.fault = Some((fault.kind, fault.cause.take().map(Cow::into_owned)));
        fault.into_response(&self.head.request_id, &self.head.method)
    }

    /// Makes the response one to hand out: the record is written when its last byte is through or the client is gone.
    pub fn finish(&mut self, response: &mut Response<Body>) {
        if let Ok(id) = HeaderValue::from_str(&self.head.request_id) {
            field::set(response.headers_mut(), REQUEST_ID, id);
        }
        request_guard::finish(self, response);
    }
}

/// The route of the request that a CORS preflight asks about, if it answers preflights.
fn of_preflight(router: &Router, head: &RequestHead) -> Option<Found> {
    let method = Method::from_bytes(cors::preflight(head)?.as_bytes()).ok()?;
    match router.find(&RequestHead { method, ..head.clone() }) {
        Found::Route(route, parameters)
            if route.filters.iter().any(|(_, filter)| filter.answers_preflights()) =>
        {
            Some(Found::Route(route, parameters))
        }
        _ => None,
    }
}

/// Only the method stood in the way: the answer names those that do not (RFC 9110 section 15.5.6).
fn other_methods(methods: &[String]) -> Fault {
    let fault = Fault::new(FaultKind::MethodNotAllowed);
    match HeaderValue::from_str(&methods.join(", ")) {
        Ok(allowed) => fault.header(ALLOW, allowed),
        Err(_) => fault,
    }
}
