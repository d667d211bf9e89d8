//! Requests that wait at an endpoint when its active checks fail, over real connections, run by a real keeper.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use witgate_config::model::{Check, Health, OnUnhealthy, RetryOn, Upstream};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::facts::Switched;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::record::Why;
use witgate_wire::stream::{Side, Stream};

use super::health::{RunningHealth, health, http};
use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, forward, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{HealthState, status};

/// How long a test waits for what must happen at once. The timeouts of the upstream are longer.
const SOON: Duration = Duration::from_secs(5);

const STARTS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";

/// An origin that, while `stopped` is set, responds to nothing: a process that was stopped. Of a request for
/// `/starts` it sends only the beginning of a response.
fn stoppable(stopped: &Arc<AtomicBool>) -> Origin {
    let stopped = stopped.clone();
    Origin::start(async move |mut visitor: Visitor| {
        while let Some(request) = visitor.request().await {
            if request.contains("starts") {
                visitor.send(STARTS).await;
                visitor.closed().await;
                return;
            }
            while stopped.load(Ordering::SeqCst) || request.contains("/path") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            visitor.send(HELLO).await;
        }
    })
}

/// Two endpoints of which the first stops and has priority over the second, which works.
fn upstream(stops: &Origin, works: &Origin, on_unhealthy: OnUnhealthy) -> Upstream {
    let checks = Health {
        timeout: Duration::from_millis(50),
        unhealthy_threshold: 2,
        on_unhealthy,
        ..health(Check::Http(http()))
    };
    let mut upstream = settings(&[stops.address, works.address]);
    upstream.endpoints[1].priority = 1;
    upstream.health = Some(checks);
    upstream.first_byte_timeout = Duration::from_secs(60);
    upstream
}

struct Scene {
    stopped: Arc<AtomicBool>,
    stops: Origin,
    works: Origin,
    snapshot: Arc<Snapshot>,
    _kept: RunningHealth,
}

async fn scene(on_unhealthy: OnUnhealthy, change: impl Fn(&mut Upstream)) -> Scene {
    let stopped = Arc::<AtomicBool>::default();
    let (stops, works) = (stoppable(&stopped), Origin::answering(HELLO));
    let mut upstream = upstream(&stops, &works, on_unhealthy);
    change(&mut upstream);
    let snapshot = snapshot(upstream);
    let kept = RunningHealth::new(&snapshot);
    let healthy =
        || status(&snapshot.upstreams)[0].endpoints.iter().all(|one| one.health == HealthState::Healthy);
    super::eventually("healthy endpoints", healthy).await;
    Scene { stopped, stops, works, snapshot, _kept: kept }
}

impl Scene {
    fn asked(&self, origin: &Origin) -> usize {
        origin.requests().iter().filter(|request| request.contains("/path")).count()
    }

    /// Stops the first endpoint once this many requests wait there.
    async fn stop(&self, waiting: usize) {
        super::eventually("requests that wait", || self.asked(&self.stops) == waiting).await;
        self.stopped.store(true, Ordering::SeqCst);
    }

    async fn ask(&self, method: Method, body: Body) -> (Result<Bytes, Fault>, Vec<Why>) {
        let mut request = exchange(&self.snapshot, method, &[]);
        let result = match forward(&mut request, body).await {
            Ok(response) => Ok(testing::bytes(response.into_body()).await.expect("a whole body")),
            Err(fault) => Err(fault),
        };
        (result, request.facts.record.repeats.iter().map(|repeat| repeat.why).collect())
    }
}

#[test]
fn requests_that_wait_at_an_endpoint_whose_checks_fail_go_elsewhere_outside_of_the_budget() {
    run(async {
        // Without retries and with an empty budget: moving is neither.
        let scene = scene(OnUnhealthy::Retry, |upstream| {
            upstream.retry.attempts = 1;
            upstream.retry.budget.ratio = 0.0;
            upstream.retry.budget.min_per_second = 0;
        })
        .await;
        let asking = join_all((0..30).map(|_| scene.ask(Method::GET, Body::Empty)));
        let (moved, ()) = timeout(SOON, futures_util::future::join(asking, scene.stop(30)))
            .await
            .expect("nobody waits for own timeouts");
        for (result, repeats) in moved {
            assert_eq!(result.expect("a response"), "hello");
            assert_eq!(repeats, [Why::Unhealthy]);
        }
        assert_eq!(scene.asked(&scene.works), 30);
    });
}

#[test]
fn a_request_that_is_not_safe_to_send_again_waits_on() {
    run(async {
        let scene = scene(OnUnhealthy::Retry, |_| {}).await;
        let asking = scene.ask(Method::POST, Body::Full("order".into()));
        let waited =
            futures_util::future::join(timeout(Duration::from_millis(600), asking), scene.stop(1)).await;
        assert!(waited.0.is_err(), "it was given up");
        assert_eq!(scene.asked(&scene.works), 0, "it may have been processed");
    });
}

#[test]
fn a_kept_body_is_sent_again_and_a_request_without_a_connection_moves_whatever_its_method() {
    run(async {
        // Requests that the configuration calls repeatable, with a streaming body.
        let scene1 = scene(OnUnhealthy::Retry, |upstream| upstream.retry.non_idempotent = true).await;
        let body = || {
            let frames = ["or", "der"].map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from(piece))));
            Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
        };
        let asking = timeout(SOON, scene1.ask(Method::POST, body()));
        let (answered, ()) = futures_util::future::join(asking, scene1.stop(1)).await;
        assert_eq!(answered.expect("in time").0.expect("a response"), "hello");
        // At its limit of connections, the second request waits for one; nothing of it was sent.
        let scene2 = scene(OnUnhealthy::Retry, |upstream| upstream.max_connections = 1).await;
        let first = scene2.ask(Method::GET, Body::Empty);
        let second = async {
            super::eventually("one request at the endpoint", || scene2.asked(&scene2.stops) == 1).await;
            let asking = scene2.ask(Method::POST, Body::Full("order".into()));
            futures_util::future::join(asking, scene2.stop(1)).await.0
        };
        let (first, second) =
            timeout(SOON, futures_util::future::join(first, second)).await.expect("nobody waits on");
        assert_eq!(
            (first.0.expect("a response"), second.0.expect("a response")),
            ("hello".into(), "hello".into())
        );
    });
}

#[test]
fn reset_ends_everything_that_waits() {
    run(async {
        let scene = scene(OnUnhealthy::Reset, |upstream| upstream.retry.on = RetryOn::default()).await;
        let mut started = exchange(&scene.snapshot, Method::GET, &[("x-starts", "1")]);
        let started = forward(&mut started, Body::Empty).await.expect("a head");
        let reading = started.into_body().collect();
        let waiting = [Method::GET, Method::POST].map(|method| scene.ask(method, Body::Empty));
        let stop = scene.stop(3);
        let ((waited, read), ()) = timeout(
            SOON,
            futures_util::future::join(futures_util::future::join(join_all(waiting), reading), stop),
        )
        .await
        .expect("nobody waits for own timeouts");
        for (result, repeats) in waited {
            assert_eq!(result.expect_err("a reset").kind, FaultKind::UpstreamReset);
            assert!(repeats.is_empty());
        }
        let cut = read.expect_err("the response is cut").downcast::<Fault>().expect("a fault");
        assert_eq!(cut.kind, FaultKind::UpstreamReset);
        assert!(cut.cause.is_some_and(|cause| cause.contains("health checks failed")));
        assert_eq!(scene.asked(&scene.works), 0);
    });
}

#[test]
fn an_endpoint_that_is_drained_finishes_what_it_has() {
    run(async {
        let scene = scene(OnUnhealthy::Reset, |_| {}).await;
        let asking = timeout(Duration::from_millis(400), scene.ask(Method::GET, Body::Empty));
        let drain = async {
            super::eventually("a request that waits", || scene.asked(&scene.stops) == 1).await;
            scene.snapshot.upstreams["origin"].set.load().entries[0]
                .member
                .endpoint()
                .share
                .set_drained(true);
        };
        let (waited, ()) = futures_util::future::join(asking, drain).await;
        assert!(waited.is_err(), "only failed checks end what waits");
    });
}

/// The upstream's side of a tunnel to an endpoint that then stops, and the scene of both.
async fn tunnel(on_unhealthy: OnUnhealthy) -> (Stream, Scene) {
    let stopped = Arc::<AtomicBool>::default();
    let is_stopped = stopped.clone();
    let stops = Origin::start(async move |mut visitor: Visitor| {
        while let Some(request) = visitor.request().await {
            if request.contains("upgrade: chat") {
                visitor
                    .send(
                        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\nhi",
                    )
                    .await;
                visitor.closed().await;
                return;
            }
            while is_stopped.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            visitor.send(HELLO).await;
        }
    });
    let works = Origin::answering(HELLO);
    let snapshot = snapshot(upstream(&stops, &works, on_unhealthy));
    let kept = RunningHealth::new(&snapshot);
    let healthy =
        || status(&snapshot.upstreams)[0].endpoints.iter().all(|one| one.health == HealthState::Healthy);
    super::eventually("healthy endpoints", healthy).await;
    let scene = Scene { stopped, stops, works, snapshot, _kept: kept };
    let mut request = exchange(&scene.snapshot, Method::GET, &[]);
    request.facts.upgrade = Some("chat".parse().expect("a value"));
    let response = forward(&mut request, Body::Empty).await.expect("a response");
    assert_eq!(response.status(), http::StatusCode::SWITCHING_PROTOCOLS);
    let switched = request.facts.switched.take().and_then(Switched::into_side);
    let Some(Side::Switched(mut tunnel)) = switched else { panic!("no tunnel") };
    let mut greeting = [0; 2];
    tunnel.read_exact(&mut greeting).await.expect("a greeting");
    assert_eq!(&greeting, b"hi");
    (tunnel, scene)
}

fn is_unhealthy(scene: &Scene) -> bool {
    status(&scene.snapshot.upstreams)[0].endpoints.iter().any(|one| one.health == HealthState::Unhealthy)
}

#[test]
fn reset_ends_tunnels_and_retry_leaves_them_alone() {
    run(async {
        let (mut reset, scene) = tunnel(OnUnhealthy::Reset).await;
        let reading = async { reset.read(&mut [0; 8]).await };
        let stop = async { scene.stopped.store(true, Ordering::SeqCst) };
        let (read, ()) = timeout(SOON, futures_util::future::join(reading, stop)).await.expect("in time");
        let error = read.expect_err("the tunnel is cut");
        assert!(error.to_string().contains("health checks failed"), "{error}");

        let (mut kept, scene) = tunnel(OnUnhealthy::Retry).await;
        scene.stopped.store(true, Ordering::SeqCst);
        super::eventually("failed checks", || is_unhealthy(&scene)).await;
        kept.write_all(b"still").await.expect("an open tunnel");
        let read = timeout(Duration::from_millis(200), kept.read(&mut [0; 8])).await;
        assert!(read.is_err(), "the tunnel is open");
    });
}
