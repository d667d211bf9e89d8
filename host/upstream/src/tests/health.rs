//! Active checks over real connections, run by a real keeper.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use witgate_config::model::{BodyCheck, Check, Health, HttpCheck, OnUnhealthy, Upstream};
use witgate_telemetry::Telemetry;

use super::origin::{Origin, Visitor};
use super::tls::Authority;
use super::{HELLO, eventually, get, rebuilt, settings, snapshot};
use crate::connection::OwnCore;
use crate::keeper::Keeper;
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{Availability, EndpointStatus, HealthState, status};

const ILL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Snapshots in service, and the keeper that follows them.
pub(crate) struct RunningHealth {
    snapshots: Arc<ArcSwap<Snapshot>>,
    keeper: Keeper,
}

impl RunningHealth {
    pub(crate) fn new(snapshot: &Arc<Snapshot>) -> RunningHealth {
        let snapshots = Arc::new(ArcSwap::new(snapshot.clone()));
        let keeper = Keeper::start(snapshots.clone(), Telemetry::new()).unwrap();
        RunningHealth { snapshots, keeper }
    }

    fn swap(&self, upstream: Upstream) -> Arc<Snapshot> {
        let snapshot = rebuilt(upstream, Some(&self.snapshots.load()));
        self.snapshots.store(snapshot.clone());
        self.keeper.follow();
        snapshot
    }
}

pub(crate) fn health(check: Check) -> Health {
    Health {
        check,
        interval: Duration::from_millis(20),
        recheck_interval: Duration::from_millis(10),
        jitter: 0.0,
        timeout: Duration::from_secs(5),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        on_unhealthy: OnUnhealthy::Retry,
        port: None,
    }
}

pub(crate) fn http() -> HttpCheck {
    HttpCheck {
        method: "GET".into(),
        path: "/healthz?full".into(),
        host: None,
        headers: vec![("x-check".into(), "yes".into())],
        statuses: vec![(200, 299)],
        body: None,
        body_limit: 1024,
    }
}

fn checked(origin: &Origin, check: Check) -> Upstream {
    Upstream { health: Some(health(check)), ..settings(&[origin.address]) }
}

fn endpoint(snapshot: &Snapshot) -> EndpointStatus {
    status(&snapshot.upstreams)[0].endpoints.remove(0)
}

/// The result of the first check, with the reason.
async fn verdict(upstream: Upstream) -> Result<(), String> {
    let snapshot = snapshot(upstream);
    let _kept = RunningHealth::new(&snapshot);
    eventually("a first check", || endpoint(&snapshot).health != HealthState::Unknown).await;
    let endpoint = endpoint(&snapshot);
    match endpoint.health {
        HealthState::Healthy => Ok(()),
        _ => Err(endpoint.check_failure.unwrap_or_default()),
    }
}

/// An origin whose checks succeed while `well` is set, and that responds to all other requests.
fn moody(well: &Arc<AtomicBool>) -> Origin {
    let well = well.clone();
    Origin::start(async move |mut visitor: Visitor| {
        while let Some(request) = visitor.request().await {
            let ill = request.starts_with("GET /healthz") && !well.load(Ordering::SeqCst);
            visitor.send(if ill { ILL } else { HELLO }).await;
        }
    })
}

fn asked(origin: &Origin) -> usize {
    origin.requests().iter().filter(|request| request.starts_with("GET /path")).count()
}

#[test]
fn an_unhealthy_endpoint_takes_no_requests_until_it_is_healthy_again() {
    run(async {
        let well = Arc::new(AtomicBool::new(true));
        let (moody, steady) = (moody(&well), Origin::answering(HELLO));
        let mut upstream = checked(&moody, Check::Http(http()));
        upstream.endpoints.extend(settings(&[steady.address]).endpoints);
        let snapshot = snapshot(upstream);
        let _kept = RunningHealth::new(&snapshot);
        let becomes = async |health| {
            // The health, and whether picks consider it: the view is rebuilt a moment later.
            let view = || snapshot.upstreams["origin"].seen_availability(0);
            let seen = || (view() == Availability::Unhealthy) == (health == HealthState::Unhealthy);
            eventually("the state", || endpoint(&snapshot).health == health && seen()).await;
        };
        becomes(HealthState::Healthy).await;
        let head = moody.requests()[0].to_ascii_lowercase();
        assert!(head.starts_with("get /healthz?full http/1.1\r\n"), "{head}");
        assert!(
            head.contains(&format!("host: {}\r\n", moody.address)) && head.contains("x-check: yes\r\n"),
            "{head}"
        );
        for _ in 0..4 {
            get(&snapshot).await.unwrap();
        }
        assert_eq!((asked(&moody), asked(&steady)), (2, 2));
        well.store(false, Ordering::SeqCst);
        becomes(HealthState::Unhealthy).await;
        assert_eq!(endpoint(&snapshot).check_failure.as_deref(), Some("status 503"));
        for _ in 0..4 {
            get(&snapshot).await.unwrap();
        }
        assert_eq!((asked(&moody), asked(&steady)), (2, 6));
        well.store(true, Ordering::SeqCst);
        becomes(HealthState::Healthy).await;
        for _ in 0..4 {
            get(&snapshot).await.unwrap();
        }
        assert_eq!((asked(&moody), asked(&steady)), (4, 8));
        let events: Vec<_> =
            status(&snapshot.upstreams)[0].events.iter().map(|event| event.event.clone()).collect();
        assert_eq!(events, ["unhealthy", "healthy"], "that it was healthy first is no change");
    });
}

#[test]
fn what_an_http_check_expects() {
    let contains = |text: &str| Some(BodyCheck::Contains(text.into()));
    let matches = |text: &str| Some(BodyCheck::Matches(text.into()));
    let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello";
    let cases: [(&'static str, HttpCheck, Result<(), &str>); 9] = [
        (HELLO, http(), Ok(())),
        (ILL, http(), Err("status 503")),
        (ILL, HttpCheck { statuses: vec![(200, 200), (500, 503)], ..http() }, Ok(())),
        (no_content, HttpCheck { statuses: vec![(200, 203), (205, 299)], ..http() }, Err("status 204")),
        (HELLO, HttpCheck { body: contains("ell"), ..http() }, Ok(())),
        (HELLO, HttpCheck { body: contains("hell!"), ..http() }, Err("the body is not as expected")),
        (HELLO, HttpCheck { body: matches("^h.*o$"), ..http() }, Ok(())),
        // Only bytes within the limit are examined.
        (
            HELLO,
            HttpCheck { body: matches("o$"), body_limit: 4, ..http() },
            Err("the body is not as expected"),
        ),
        (half, http(), Err("end of file before message length reached")),
    ];
    run(async {
        for (answer, check, expected) in cases {
            let origin = Origin::start(async move |mut visitor: Visitor| {
                if visitor.request().await.is_some() {
                    visitor.send(answer).await;
                }
            });
            match (verdict(checked(&origin, Check::Http(check.clone()))).await, expected) {
                (Ok(()), Ok(())) => {}
                (Err(why), Err(expected)) if why.contains(expected) => {}
                (found, expected) => panic!("{answer:?} {check:?}: {found:?} rather than {expected:?}"),
            }
        }
    });
}

/// A parent that is not sampled prevents a service from starting a trace of its own for each check.
#[test]
fn checks_are_traced_by_nobody() {
    run(async {
        let parents = |origin: &Origin| -> Vec<String> {
            let requests = origin.requests();
            let parent = |request: &String| {
                request.lines().find_map(|line| line.strip_prefix("traceparent: ").map(str::to_owned))
            };
            requests.iter().map(|request| parent(request).expect("every check has one")).collect()
        };
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(checked(&origin, Check::Http(http())));
        let _kept = RunningHealth::new(&snapshot);
        eventually("two checks", || origin.requests().len() >= 2).await;
        let fresh = parents(&origin);
        assert!(fresh.iter().all(|parent| parent.len() == 55 && parent.ends_with("-00")), "{fresh:?}");
        assert_ne!(fresh[0][3..35], fresh[1][3..35], "each is a trace of its own");

        let told = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut written = http();
        written.headers.push(("traceparent".into(), told.into()));
        let origin = Origin::answering(HELLO);
        assert_eq!(verdict(checked(&origin, Check::Http(written))).await, Ok(()));
        assert_eq!(parents(&origin)[0], told, "what the operator writes holds");
    });
}

#[test]
fn an_endpoint_that_does_not_answer_in_time_is_unhealthy() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| visitor.closed().await);
        let mut upstream = checked(&origin, Check::Http(http()));
        upstream.health.as_mut().unwrap().timeout = Duration::from_millis(30);
        assert_eq!(verdict(upstream).await, Err("no answer within 30ms".into()));
        eventually("its connections are closed", || origin.log.open.load(Ordering::SeqCst) == 0).await;
    });
}

/// Speaks the gRPC health protocol: the service `well` is serving, `ill` is not, others are unknown.
fn grpc_origin() -> Origin {
    Origin::start(async |visitor: Visitor| {
        let service = service_fn(async |request: Request<Incoming>| {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            assert!(request.headers()["traceparent"].as_bytes().ends_with(b"-00"), "nobody traces a check");
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            let (answer, grpc_status) = match asked.as_ref() {
                [0, 0, 0, 0, 6, 0x0a, 4, b'w', b'e', b'l', b'l'] => (&[0, 0, 0, 0, 2, 0x08, 1][..], "0"),
                [0, 0, 0, 0, 5, 0x0a, 3, b'i', b'l', b'l'] => (&[0, 0, 0, 0, 2, 0x08, 2][..], "0"),
                _ => (&[][..], "5"),
            };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", grpc_status.parse().unwrap());
            let data = Frame::data(Bytes::from_static(answer));
            let frames = [Ok::<_, Infallible>(data), Ok(Frame::trailers(trailers))];
            Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
        });
        let builder = hyper::server::conn::http2::Builder::new(OwnCore);
        let _ = builder.serve_connection(TokioIo::new(visitor.stream), service).await;
    })
}

#[test]
fn what_a_grpc_check_expects() {
    run(async {
        let origin = grpc_origin();
        let grpc = |service: &str| Check::Grpc { service: service.into() };
        assert_eq!(
            verdict(checked(&origin, grpc("well"))).await,
            Ok(()),
            "whatever the upstream's protocol is"
        );
        assert_eq!(verdict(checked(&origin, grpc("ill"))).await, Err("NOT_SERVING".into()));
        assert_eq!(verdict(checked(&origin, grpc(""))).await, Err("grpc-status 5".into()));
        let stranger = Origin::answering(HELLO);
        assert!(verdict(checked(&stranger, grpc(""))).await.is_err());
    });
}

#[test]
fn what_a_tcp_check_expects() {
    let tcp = |send: &str, expect: &str| Check::Tcp { send: send.into(), expect: expect.into() };
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            let mut line = String::new();
            visitor.send("220 ready\r\n").await;
            let _ = visitor.stream.read_line(&mut line).await;
            let _ = visitor.stream.write_all(format!("you said {line}").as_bytes()).await;
        });
        assert_eq!(verdict(checked(&origin, tcp("", ""))).await, Ok(()));
        assert_eq!(verdict(checked(&origin, tcp("", "220"))).await, Ok(()));
        assert_eq!(verdict(checked(&origin, tcp("PING\n", "said PING"))).await, Ok(()));
        let why = verdict(checked(&origin, tcp("PING\n", "PONG"))).await;
        assert_eq!(why, Err("it closed the connection without what is expected".into()));
        let mut gone = checked(&origin, tcp("", ""));
        drop(origin);
        gone.endpoints.truncate(1);
        assert!(verdict(gone).await.unwrap_err().contains("refused"));
    });
}

#[test]
fn tls_is_that_of_the_upstream() {
    run(async {
        let authority = Authority::new();
        let origin = authority.origin("right.example", false);
        let check = |name: &str| Upstream {
            health: Some(health(Check::Http(http()))),
            ..authority.trusted_as(&origin, name)
        };
        assert_eq!(verdict(check("right.example")).await, Ok(()));
        let why = verdict(check("wrong.example")).await.unwrap_err();
        assert!(why.contains("wrong.example"), "{why}");
    });
}

#[test]
fn a_port_of_its_own_may_be_checked() {
    run(async {
        let (traffic, admin) = (Origin::answering(HELLO), Origin::answering(ILL));
        let mut upstream = checked(&traffic, Check::Http(http()));
        upstream.health.as_mut().unwrap().port = Some(admin.address.port());
        assert_eq!(verdict(upstream).await, Err("status 503".into()));
        assert_eq!(traffic.connections(), 0);
    });
}

#[test]
fn connections_that_wait_are_closed_when_their_endpoint_turns_unhealthy() {
    run(async {
        let well = Arc::new(AtomicBool::new(true));
        let origin = moody(&well);
        let snapshot = snapshot(checked(&origin, Check::Http(http())));
        let _kept = RunningHealth::new(&snapshot);
        eventually("it is healthy", || endpoint(&snapshot).health == HealthState::Healthy).await;
        get(&snapshot).await.unwrap();
        assert_eq!(endpoint(&snapshot).connections, 1);
        well.store(false, Ordering::SeqCst);
        eventually("the connection is closed", || endpoint(&snapshot).connections == 0).await;
    });
}

#[test]
fn a_reload_keeps_the_state_and_an_endpoint_that_goes_is_left_alone() {
    run(async {
        let well = Arc::new(AtomicBool::new(false));
        let (stays, goes) = (moody(&well), Origin::answering(HELLO));
        let mut upstream = checked(&stays, Check::Http(http()));
        upstream.endpoints.extend(settings(&[goes.address]).endpoints);
        let before = snapshot(upstream.clone());
        let kept = RunningHealth::new(&before);
        eventually("it is unhealthy", || endpoint(&before).health == HealthState::Unhealthy).await;
        eventually("the other is checked", || goes.connections() > 1).await;
        upstream.endpoints.truncate(1);
        upstream.keep_alive = Duration::from_secs(7);
        upstream.health.as_mut().unwrap().healthy_threshold = 3;
        let after = kept.swap(upstream.clone());
        drop(before);
        assert_eq!(endpoint(&after).health, HealthState::Unhealthy);
        // Checks of the endpoint that stays continue. After a few of them the other would have been checked, too.
        let failed = endpoint(&after).checks_failed;
        eventually("the checks go on", || endpoint(&after).checks_failed > failed + 10).await;
        let seen = goes.connections();
        let failed = endpoint(&after).checks_failed;
        eventually("the checks go on", || endpoint(&after).checks_failed > failed + 10).await;
        assert_eq!(goes.connections(), seen);
        // Without checks the health is unknown, so the endpoint takes requests.
        upstream.health = None;
        let unchecked = kept.swap(upstream);
        eventually("it is forgotten", || endpoint(&unchecked).health == HealthState::Unknown).await;
        assert_eq!(get(&unchecked).await.unwrap(), "hello");
    });
}

#[test]
fn checks_end_with_the_keeper() {
    run(async {
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(checked(&origin, Check::Http(http())));
        let kept = RunningHealth::new(&snapshot);
        eventually("there are checks", || origin.connections() > 2).await;
        // Returns once the keeper's thread has ended, and every task with it.
        drop(kept.keeper);
        let passed = endpoint(&snapshot).checks_succeeded;
        let reference = RunningHealth::new(&rebuilt(checked(&origin, Check::Http(http())), None));
        let checks = || endpoint(&reference.snapshots.load()).checks_succeeded;
        eventually("another keeper has checked", || checks() > 5).await;
        assert_eq!(endpoint(&snapshot).checks_succeeded, passed);
    });
}

#[test]
fn a_regular_expression_that_is_none_is_a_problem() {
    let mut config = testing::config();
    let check = HttpCheck { body: Some(BodyCheck::Matches("(".into())), ..http() };
    let upstream =
        Upstream { health: Some(health(Check::Http(check))), ..settings(&["127.0.0.1:1".parse().unwrap()]) };
    config.upstreams.insert("origin".into(), upstream);
    let problems = Snapshot::build(config, None).err().unwrap();
    assert_eq!(problems[0].key, "upstreams.origin.health.http.body_regex");
}
