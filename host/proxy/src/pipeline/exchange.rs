//! One request and its response, with everything that belongs to them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Response};
use witgate_exchange::arrival::{Arrival, Ingress};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::Binding;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::trace::REQUEST_ID;
use witgate_telemetry::CoreTelemetry;
use witgate_telemetry::request_guard::{self, RequestGuard};
use witgate_telemetry::route_series::RouteSeries;
use witgate_wire::http1::field;

use crate::filters::Filters;
use crate::gateway::Gateway;
use crate::router::when::Met;
use crate::router::{Found, Route};
use crate::snapshot::Snapshot;

/// One request in the pipeline: its facts, and what only the pipeline needs besides. It lives on one core and
/// never outlives its response.
pub struct Exchange {
    /// The part that filters, destinations and the record see.
    pub facts: Facts,
    /// The ingress by which the request came.
    pub ingress: Rc<Ingress>,
    /// Where it is recorded.
    pub telemetry: CoreTelemetry,
    /// The snapshot that the request uses from its beginning to its end.
    pub snapshot: Arc<Snapshot>,
    /// The counters of the route, once it is chosen.
    pub series: Option<Arc<RouteSeries>>,
    /// The bindings of the transformation contract that were called, with their contexts, in the order of the way
    /// down.
    pub transformations: Vec<Transformed>,
    /// Number of origin filters that were entered on the way down. Only these see the response.
    pub origin_filters_entered: usize,
    /// The binding that last changed `Content-Encoding` of the request.
    pub request_coding_by: Option<Arc<str>>,
    /// The binding that last changed `Content-Encoding` of the response.
    pub response_coding_by: Option<Arc<str>>,
    /// The versions of the bindings that are not called for this request, because of their `when` or `unless`.
    pub left_out: Vec<u64>,
    /// The conditional bindings of the route about which the identity decides, by index, with the conditions that
    /// hold so far.
    pub(crate) undecided: Vec<(usize, Met)>,
}

/// A transformation binding that saw the request.
pub struct Transformed {
    /// Index into the route's transformation bindings.
    pub binding: usize,
    /// The context of the binding for this request.
    pub context: Context,
}

/// The context, opaque bytes that a transformation binding passes from each of its calls to the next. It is shared
/// with bodies that still call the binding while they stream. The call that ends last determines the bytes.
#[derive(Debug, Clone, Default)]
pub struct Context(Rc<RefCell<Bytes>>);

impl Context {
    /// A context with these bytes.
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
        let Arrival { ingress, deadline, completion, informational } = arrival;
        facts.limit_time(deadline.map(|deadline| deadline.saturating_duration_since(facts.begun)));
        facts.completion = completion;
        facts.informational = informational;
        Exchange {
            facts,
            ingress,
            telemetry: gateway.telemetry.clone(),
            snapshot,
            series: None,
            transformations: Vec::new(),
            origin_filters_entered: 0,
            request_coding_by: None,
            response_coding_by: None,
            left_out: Vec::new(),
            undecided: Vec::new(),
        }
    }

    /// Whether the binding is not called for this request.
    pub fn leaves_out(&self, binding: &dyn Binding) -> bool {
        !self.left_out.is_empty() && self.left_out.contains(&binding.version())
    }

    /// Chooses the route once, and notes its name, parameters and timeout in the facts.
    ///
    /// # Errors
    /// `NoRoute`, or `MethodNotAllowed` with `Allow` if a route matches except for its method.
    pub fn choose_route(&mut self) -> Result<Arc<Route>, Fault> {
        let router = self.snapshot.routers.get(&*self.ingress.listener);
        match router.map_or(Found::Nothing, |router| router.route(&self.facts.head)) {
            Found::Route(route, parameters) => {
                let head = Arc::make_mut(&mut self.facts.head);
                head.route = Some(route.name.clone());
                head.parameters = parameters;
                if !route.config.merge_slashes {
                    route.keep_slashes(head, self.snapshot.config.gateway.encoded_slashes);
                }
                self.series = Some(route.series.clone());
                self.facts.limit_time(route.config.timeout);
                Ok(route)
            }
            Found::OtherMethods(methods) => Err(other_methods(&methods)),
            Found::Nothing => Err(Fault::new(FaultKind::NoRoute)),
        }
    }

    /// The filters of the gateway and of the listener, which every response passes, also without a route.
    pub(super) fn common_filters(&self) -> Arc<Filters> {
        let router = self.snapshot.routers.get(&*self.ingress.listener);
        router.map_or_else(|| Arc::new([]) as _, |router| router.common_filters().clone())
    }

    /// Counts the request among those in flight on its route until its record is written.
    pub fn count_in_flight(&mut self) {
        let Some(series) = &self.series else { return };
        series.in_flight(self.telemetry.metrics(), &self.ingress.listener, 1);
        self.facts.record.in_flight = true;
    }

    /// Prepares the response for sending: the record is written after its last byte, or when the client has left.
    pub fn finish(&mut self, mut response: Response<Body>) -> Response<Body> {
        if let Ok(id) = HeaderValue::from_str(&self.facts.head.request_id) {
            field::set(response.headers_mut(), REQUEST_ID, id);
        }
        request_guard::finish(&mut self.facts, self.series.take(), &self.telemetry, &self.ingress, response)
    }
}

impl Drop for Exchange {
    /// An exchange that is dropped before it was finished has lost its client, or the gateway has cut its connection.
    fn drop(&mut self) {
        // After a panic the client gets a response, which has a record of its own.
        if !self.facts.record.taken && !std::thread::panicking() {
            let (kind, cause) = match self.ingress.was_cut() {
                Some((kind, cause)) => (kind, Some(cause.to_owned())),
                None => (FaultKind::ClientGone, None),
            };
            self.facts.record.fault.get_or_insert((kind, cause));
            drop(RequestGuard::take(
                &mut self.facts,
                self.series.take(),
                &self.telemetry,
                &self.ingress,
                kind.describe().status,
            ));
        }
    }
}

/// The fault of a request that matches a route except for its method. `Allow` names the methods that would match
/// (RFC 9110 section 15.5.6).
fn other_methods(methods: &[String]) -> Fault {
    let fault = Fault::new(FaultKind::MethodNotAllowed);
    match HeaderValue::from_str(&methods.join(", ")) {
        Ok(allowed) => fault.header(ALLOW, allowed),
        Err(_) => fault,
    }
}
