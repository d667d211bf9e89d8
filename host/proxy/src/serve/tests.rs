//! Tests of the walk without sockets: arrivals that do not come over a connection, and their outcomes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use witgate_config::model::PathMatch;
use witgate_exchange::arrival::{Completion, Ingress, Outcome, Source};
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::destination::Destination;
use witgate_exchange::facts::{Facts, Switched};
use witgate_exchange::fault::FaultKind;
use witgate_telemetry::Telemetry;
use witgate_wire::stream::{Side, Stream};

use super::*;
use crate::destination::tests::{Echo, Wrapper};
use crate::filters::{Filter, Stage, Step};
use crate::listener::tests;
use crate::router::{Router, Rule};
use crate::snapshot::Snapshot;
use crate::testing;

type Served<'a> = MaybeReady<'a, Result<Response<Body>, Fault>>;

/// A destination that never responds.
struct Silent;

impl Destination for Silent {
    fn serve<'a>(&'a self, _facts: &'a mut Facts, _body: Body) -> Served<'a> {
        MaybeReady::waiting(std::future::pending())
    }
}

/// A destination whose response body fails.
struct Broken;

impl Destination for Broken {
    fn serve<'a>(&'a self, _facts: &'a mut Facts, _body: Body) -> Served<'a> {
        let pieces = [
            Ok(http_body::Frame::data(Bytes::from_static(b"half"))),
            Err(Box::new(Fault::new(FaultKind::BodyTimeout)) as witgate_exchange::body::BodyError),
        ];
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
        MaybeReady::over(Ok(Response::new(Body::wrap(body))))
    }
}

/// A destination that switches protocols and sends back what it receives, or that is gone right after the switch.
struct Switching {
    breaks: bool,
}

impl Destination for Switching {
    fn serve<'a>(&'a self, facts: &'a mut Facts, _body: Body) -> Served<'a> {
        let (near, far) = duplex(64);
        let breaks = self.breaks;
        tokio::task::spawn_local(async move {
            if breaks {
                return;
            }
            let (mut from, mut to) = tokio::io::split(far);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
        facts.switched = Some(Switched::new(Side::Switched(Stream::new(near, Bytes::new()))));
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        MaybeReady::over(Ok(response))
    }
}

/// A filter that responds by itself and declares the request as discarded, or that panics.
struct Judging;

impl Filter for Judging {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        assert!(!facts.head.headers.contains_key("x-panic"), "a bug, as this test wants it");
        MaybeReady::over(Ok(match facts.head.headers.contains_key("x-discard") {
            true => {
                facts.discarded = true;
                Step::Answer(Response::new(Body::Empty))
            }
            false => Step::Proceed(body),
        }))
    }
}

/// A gateway with a route for each path.
fn gateway() -> Gateway {
    let mut snapshot = Snapshot::build(Arc::new(tests::config(|_| {})), Default::default(), None)
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    let wrapped = Wrapper { inner: Arc::new(Echo), shelf: vec![("/wrapped/kept", "kept")] };
    let destinations: [(&str, Option<Arc<dyn Destination>>); 7] = [
        ("/fixed", None),
        ("/echo", Some(Arc::new(Echo))),
        ("/wrapped", Some(Arc::new(wrapped))),
        ("/silent", Some(Arc::new(Silent))),
        ("/broken", Some(Arc::new(Broken))),
        ("/switching", Some(Arc::new(Switching { breaks: false }))),
        ("/breaking", Some(Arc::new(Switching { breaks: true }))),
    ];
    let routes = destinations.into_iter().enumerate().map(|(position, (path, destination))| {
        let mut config = tests::route("hello");
        config.name = path.into();
        config.matches.path = Some(PathMatch::Prefix(path.into()));
        let Ok(rule) =
            Rule::compile(position, &config, &snapshot.upstreams, &Default::default(), Default::default())
        else {
            panic!("a rule")
        };
        let mut route = Route::new(config, Arc::new(rule));
        route.filters = vec![(Stage::Edge, Arc::new(Judging))];
        route.destination = destination.unwrap_or(route.destination);
        Arc::new(route)
    });
    let router = Router::new(routes.collect()).unwrap_or_else(|problems| panic!("{problems:?}"));
    snapshot.routers.insert("web".into(), router);
    testing::gateway(&Telemetry::new(), Arc::new(snapshot))
}

/// The outcomes with which completions were called, in order.
#[derive(Clone, Default)]
struct Outcomes(Rc<RefCell<Vec<Outcome>>>);

impl Outcomes {
    /// A message without a peer, whose completion adds its outcome to this list.
    fn arrival(&self) -> Arrival {
        let told = self.0.clone();
        let ingress = Ingress::new(Source::Message, "web".into(), None, testing::limits());
        Arrival {
            completion: Completion::new(move |outcome| told.borrow_mut().push(outcome)),
            ..Arrival::new(Rc::new(ingress))
        }
    }

    /// The outcomes since the previous call of this function.
    fn take(&self) -> Vec<Outcome> {
        self.0.take()
    }
}

fn request(method: Method, target: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(target).header("host", "a.example");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(body.into()).expect("a request")
}

/// Serves a request and reads its response. Returns status, body, and the outcomes before and after the body was
/// read.
async fn walked(mut request: Request<Body>) -> (u16, String, Vec<Outcome>, Vec<Outcome>) {
    let (gateway, told) = (gateway(), Outcomes::default());
    let response = serve(&gateway, told.arrival(), &mut request, None).await;
    let status = response.status().as_u16();
    let before = told.take();
    let body = testing::bytes(response.into_body()).await;
    let body =
        body.map_or_else(|error| error.to_string(), |body| String::from_utf8_lossy(&body).into_owned());
    (status, body, before, told.take())
}

#[test]
fn a_response_that_was_read_whole_was_answered() {
    testing::run(async {
        let body = testing::chunks(vec![Ok(b"a mess"), Ok(b"age")]);
        let (status, body, before, after) = walked(request(Method::POST, "/echo", &[], body)).await;
        assert_eq!((status, &*body), (200, "a message"));
        assert_eq!((before, after), (vec![], vec![Outcome::Answered]), "at the last byte");
        let (status, _, before, after) = walked(request(Method::POST, "/echo", &[], Body::Empty)).await;
        assert_eq!((status, before, after), (200, vec![Outcome::Answered], vec![]), "there is no byte");
        let (_, body, _, after) = walked(request(Method::POST, "/wrapped", &[], Bytes::from("x"))).await;
        assert_eq!((&*body, after), ("x", vec![Outcome::Answered]), "by the destination that is wrapped");
    });
}

#[test]
fn what_is_answered_in_place_of_the_destination_was_made_locally() {
    testing::run(async {
        let (_, body, _, after) = walked(request(Method::GET, "/fixed", &[], Body::Empty)).await;
        assert_eq!((&*body, after), ("hello", vec![Outcome::Local]));
        let (_, body, _, after) = walked(request(Method::GET, "/wrapped/kept", &[], Body::Empty)).await;
        assert_eq!((&*body, after), ("kept", vec![Outcome::Local]), "by a wrapper");
    });
}

#[test]
fn a_fault_is_told_with_its_kind_wherever_it_comes_from() {
    testing::run(async {
        let fault = |kind| vec![Outcome::Fault(kind)];
        let (status, _, _, after) = walked(request(Method::GET, "/nowhere", &[], Body::Empty)).await;
        assert_eq!((status, after), (404, fault(FaultKind::NoRoute)));
        let bad = request(Method::GET, "/echo", &[("x_user", "root")], Body::Empty);
        let (status, _, _, after) = walked(bad).await;
        assert_eq!((status, after), (400, fault(FaultKind::BadRequest)), "refused by hygiene");
        let body = testing::chunks(vec![Ok(b"half"), Err("reset")]);
        let (_, _, _, after) = walked(request(Method::POST, "/echo", &[], body)).await;
        assert_eq!(after, fault(FaultKind::ClientGone), "of the destination");
        let (status, _, before, after) = walked(request(Method::GET, "/broken", &[], Body::Empty)).await;
        assert_eq!((status, before, after), (200, vec![], fault(FaultKind::BodyTimeout)), "half-way");
    });
}

#[test]
fn a_stage_may_discard_a_request() {
    testing::run(async {
        let discarded = request(Method::POST, "/echo", &[("x-discard", "1")], Body::Empty);
        let (status, _, before, after) = walked(discarded).await;
        assert_eq!((status, before, after), (200, vec![Outcome::Discarded], vec![]));
    });
}

#[test]
fn a_body_that_is_dropped_midway_was_abandoned() {
    testing::run(async {
        let (gateway, told) = (gateway(), Outcomes::default());
        let mut request = request(Method::GET, "/broken", &[], Body::Empty);
        let mut response = serve(&gateway, told.arrival(), &mut request, None).await;
        let frame = response.body_mut().frame().await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "half");
        assert_eq!(told.take(), []);
        drop(response);
        assert_eq!(told.take(), [Outcome::Abandoned]);
    });
}

#[test]
fn a_walk_that_is_dropped_or_panics_was_abandoned() {
    testing::run(async {
        let (gateway, told) = (gateway(), Outcomes::default());
        let mut silent = request(Method::GET, "/silent", &[], Body::Empty);
        let mut walk = Box::pin(serve(&gateway, told.arrival(), &mut silent, None));
        assert!(futures_util::poll!(&mut walk).is_pending());
        assert_eq!(told.take(), []);
        drop(walk);
        assert_eq!(told.take(), [Outcome::Abandoned]);

        let mut unread = request(Method::GET, "/silent", &[], Body::Empty);
        drop(serve(&gateway, told.arrival(), &mut unread, None));
        assert_eq!(told.take(), [Outcome::Abandoned], "before it was polled");

        let mut panicking = request(Method::GET, "/echo", &[("x-panic", "1")], Body::Empty);
        let walk = serve(&gateway, told.arrival(), &mut panicking, None);
        assert!(std::panic::AssertUnwindSafe(walk).catch_unwind().await.is_err());
        assert_eq!(told.take(), [Outcome::Abandoned]);
    });
}

/// Asks for a switch of protocols. Returns the status and the client's end of the tunnel.
async fn switched(gateway: &Gateway, told: &Outcomes, target: &str) -> (StatusCode, DuplexStream) {
    let (client, far) = duplex(64);
    let side = Side::Switched(Stream::new(far, Bytes::new()));
    let headers = [("connection", "upgrade"), ("upgrade", "chat")];
    let mut request = request(Method::GET, target, &headers, Body::Empty);
    let response = serve(gateway, told.arrival(), &mut request, Some(ClientSide { side, guard: None })).await;
    (response.status(), client)
}

/// Waits until there is an outcome, for five seconds at most.
async fn eventually(told: &Outcomes) -> Vec<Outcome> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while told.0.borrow().is_empty() {
        assert!(Instant::now() < deadline, "nothing was told");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    told.take()
}

#[test]
fn a_tunnel_is_over_when_both_sides_have_said_their_last() {
    testing::run(async {
        let (gateway, told) = (gateway(), Outcomes::default());
        let (status, mut client) = switched(&gateway, &told, "/switching").await;
        assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
        client.write_all(b"over it").await.unwrap();
        let mut back = [0; 7];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!((&back, told.take()), (b"over it", vec![]));
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut back).await.unwrap(), 0);
        assert_eq!(eventually(&told).await, [Outcome::Answered]);
        drop(client);
        assert_eq!(told.take(), []);
    });
}

#[test]
fn a_tunnel_that_the_upstream_breaks_is_a_fault_and_one_that_the_client_breaks_is_not() {
    testing::run(async {
        let (gateway, told) = (gateway(), Outcomes::default());
        let (_, mut client) = switched(&gateway, &told, "/switching").await;
        client.write_all(b"what comes back has nobody to go to").await.unwrap();
        drop(client);
        assert_eq!(eventually(&told).await, [Outcome::Abandoned]);
        let (_, mut client) = switched(&gateway, &told, "/breaking").await;
        client.write_all(b"nobody reads this").await.unwrap();
        assert_eq!(eventually(&told).await, [Outcome::Fault(FaultKind::UpstreamReset)]);
    });
}

#[test]
fn the_deadline_of_an_arrival_only_shortens() {
    testing::run(async {
        let gateway = gateway();
        let now = Instant::now();
        for (given, most) in [(Duration::from_secs(3), 3), (Duration::ZERO, 0)] {
            let arrival = Arrival { deadline: Some(now + given), ..Outcomes::default().arrival() };
            let facts = testing::facts(testing::head(Method::GET, "/", &[]));
            let mut exchange = Exchange::begin(facts, arrival, &gateway, gateway.snapshot());
            exchange.facts.limit_time(Some(Duration::from_secs(60)));
            assert!(exchange.facts.timeout.is_some_and(|timeout| timeout <= Duration::from_secs(most)));
        }
    });
}

#[test]
fn an_arrival_without_a_peer_is_nobodys_proxy() {
    testing::run(async {
        let mut config = tests::config(|_| {});
        config.gateway.trusted_proxies = vec!["0.0.0.0/0".parse().expect("a net")];
        let snapshot = tests::snapshot(config);
        let gateway = testing::gateway(&Telemetry::new(), snapshot.clone());
        let headers = [("x-forwarded-for", "1.1.1.1"), ("x-request-id", "a-producer-s")];
        let mut request = request(Method::GET, "/", &headers, Body::Empty);
        let admitted = hygiene::admit(Outcomes::default().arrival(), &gateway, &snapshot, &mut request, None);
        let Ok(admitted) = admitted else { panic!("it is let in") };
        let (exchange, ..) = admitted.into_exchange(&gateway, snapshot);
        assert!(!exchange.facts.trusted_peer);
        assert!(!exchange.facts.head.headers.contains_key("x-forwarded-for"));
        assert_ne!(&*exchange.facts.head.request_id, "a-producer-s");
    });
}

#[test]
fn a_mapped_peer_is_trusted_as_its_address_is() {
    let mut config = tests::config(|_| {});
    config.gateway.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a net")];
    let snapshot = tests::snapshot(config);
    let gateway = testing::gateway(&Telemetry::new(), snapshot.clone());
    for (peer, trusted) in [("[::ffff:10.0.0.1]:1", true), ("10.0.0.1:1", true), ("[::1]:1", false)] {
        let peer = peer.parse().expect("an address");
        let ingress = Ingress::new(Source::Test, "web".into(), Some(peer), testing::limits());
        let mut request = request(Method::GET, "/", &[], Body::Empty);
        let arrival = Arrival::new(Rc::new(ingress));
        let Ok(admitted) = hygiene::admit(arrival, &gateway, &snapshot, &mut request, None) else {
            panic!("it is let in")
        };
        let (exchange, ..) = admitted.into_exchange(&gateway, snapshot.clone());
        assert_eq!(exchange.facts.trusted_peer, trusted, "{peer}");
    }
}
