//! One request and its response, with all that belongs to them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Response, StatusCode};
use witgate_exchange::arrival::{Arrival, Ingress};
use witgate_exchange::body::Body;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::trace::REQUEST_ID;

use crate::gateway::Gateway;
use crate::protocol::http1::field;
use crate::router::{Found, Route};
use crate::snapshot::Snapshot;
use crate::telemetry::CoreTelemetry;
use crate::telemetry::request_guard::{self, RequestGuard};
use crate::telemetry::route_series::RouteSeries;

/// One request on its walk: its facts, and what only the walk needs besides. Lives on one core and never outlives its
/// response.
pub struct Exchange {
    /// What filters, destinations and the record see of it.
    pub facts: Facts,
    /// The way it came in.
    pub ingress: Rc<Ingress>,
    /// Where it is recorded.
    pub telemetry: CoreTelemetry,
    /// The one version of everything this request sees.
    pub snapshot: Arc<Snapshot>,
    /// Where requests of the route are counted, once it is chosen.
    pub series: Option<Arc<RouteSeries>>,
    /// Bindings of the transformation contract that took part, with their contexts, in the order of the way down.
    pub transformations: Vec<Transformed>,
    /// How many edge and origin filters were entered on the way down; only those see the response.
    pub filters_entered: usize,
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
    /// The exchange of a request that has just arrived.
    pub fn begin(mut facts: Facts, arrival: Arrival, gateway: &Gateway, snapshot: Arc<Snapshot>) -> Self {
        let Arrival { ingress, deadline, completion } = arrival;
        facts.limit_time(deadline.map(|deadline| deadline.saturating_duration_since(facts.begun)));
        facts.completion = completion;
        Exchange {
            facts,
            ingress,
            telemetry: gateway.telemetry.clone(),
            snapshot,
            series: None,
            transformations: Vec::new(),
            filters_entered: 0,
        }
    }

    /// Chooses the route, once, and notes its name, parameters and timeout in the facts.
    ///
    /// # Errors
    /// `NoRoute`, or `MethodNotAllowed` with `Allow` if only the method stood in the way.
    pub fn choose_route(&mut self) -> Result<Arc<Route>, Fault> {
        let router = self.snapshot.routers.get(&*self.ingress.listener);
        match router.map_or(Found::Nothing, |router| router.route(&self.facts.head)) {
            Found::Route(route, parameters) => {
                let head = Arc::make_mut(&mut self.facts.head);
                head.route = Some(route.name.clone());
                head.parameters = parameters;
                self.series = Some(route.series.clone());
                self.facts.limit_time(route.config.timeout);
                Ok(route)
            }
            Found::OtherMethods(methods) => Err(other_methods(&methods)),
            Found::Nothing => Err(Fault::new(FaultKind::NoRoute)),
        }
    }

    /// Counts the request among those in flight on its route until its record is written.
    pub fn count_in_flight(&mut self) {
        let Some(series) = &self.series else { return };
        series.in_flight(self.telemetry.metrics(), &self.ingress.listener, 1);
        self.facts.record.in_flight = true;
    }

    /// Makes the response one to hand out: the record is written when its last byte is through or the client is gone.
    pub fn finish(&mut self, mut response: Response<Body>) -> Response<Body> {
        if let Ok(id) = HeaderValue::from_str(&self.facts.head.request_id) {
            field::set(response.headers_mut(), REQUEST_ID, id);
        }
        request_guard::finish(&mut self.facts, self.series.take(), &self.telemetry, &self.ingress, response)
    }
}

impl Drop for Exchange {
    /// The client of an exchange that is dropped before it was finished has left.
    fn drop(&mut self) {
        // A panic gets a response, which has a record of its own.
        if !self.facts.record.taken && !std::thread::panicking() {
            let client_gone = StatusCode::from_u16(499).expect("three digits");
            self.facts.record.fault.get_or_insert((FaultKind::ClientGone, None));
            drop(RequestGuard::take(
                &mut self.facts,
                self.series.take(),
                &self.telemetry,
                &self.ingress,
                client_gone,
            ));
        }
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
