//! `fetch`: a guest waits while its core serves other requests.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use witgate_exchange::contracts::{Call, CallFailure, Routing as _};
use witgate_proxy::snapshot::Snapshot;
use witgate_tests::Origin;
use witgate_wasm::Loaded;

use crate::scene::{Scene, config, on_core, request, snapshot_of};

const GRANT: &str = "grants.fetch = [\"origin\"]\nquarantine = \"off\"";

/// Upstreams `origin`, which is granted, and `other`, which is not, both at the same address.
fn upstreams(origin: &Origin) -> String {
    let address = origin.address();
    format!(
        "[upstreams.origin]\nendpoints = [\"{address}\"]\n[upstreams.other]\nendpoints = [\"{address}\"]\n\
         [upstreams.nobody]\nendpoints = [\"127.0.0.1:1\"]"
    )
}

struct Fetching {
    _scene: Scene,
    loaded: Arc<Loaded>,
    snapshot: Arc<Snapshot>,
}

impl Fetching {
    fn new(origin: &Origin, binding: &str) -> Self {
        let config = config(binding, &upstreams(origin));
        let scene = Scene::new();
        let bytes = std::fs::read(witgate_tests::guest("fetcher")).unwrap();
        let loaded = scene.prepare(&bytes, &config).expect("the fetcher loads");
        Fetching { _scene: scene, loaded, snapshot: snapshot_of(config) }
    }

    async fn fetch(&self, order: &str) -> Result<String, CallFailure> {
        self.fetch_for(&[("x-fetch", order)]).await
    }

    /// The same for a request with these headers.
    async fn fetch_for(&self, headers: &[(&str, &str)]) -> Result<String, CallFailure> {
        let head = request(headers);
        let chosen = self.loaded.route(Call { head: &head, fetch: &self.snapshot }).await?.content;
        Ok(chosen.and_then(|chosen| chosen.path).expect("the answer is told as the path"))
    }
}

#[test]
fn a_granted_upstream_is_reached() {
    on_core(async {
        let origin = Origin::named("origin").await;
        let fetching = Fetching::new(&origin, GRANT);
        assert_eq!(
            fetching.fetch("GET origin /keys?a=1 x-own yes").await,
            Ok("200 origin GET /keys?a=1".into())
        );
        let seen = origin.last();
        assert_eq!(seen.header("x-own"), "yes");
        assert!(!seen.headers.contains_key("traceparent"), "no trace came, and none begins here");
        assert_eq!(fetching.fetch("HEAD origin /").await, Ok("200 ".into()));
    });
}

#[test]
fn what_came_of_a_trace_goes_on_with_what_a_plugin_asks_for() {
    on_core(async {
        let origin = Origin::named("origin").await;
        let fetching = Fetching::new(&origin, GRANT);
        let traced = || {
            let seen = origin.last();
            let of = |name: &str| -> Vec<String> {
                seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
            };
            [of("traceparent"), of("tracestate"), of("baggage")]
        };
        let came =
            [("traceparent", "came"), ("tracestate", "a=1"), ("tracestate", "b=2"), ("baggage", "k=v")];
        let fetch = async |own: &str, came: &[(&str, &str)]| {
            let order = format!("GET origin / {own}");
            let headers = [&[("x-fetch", &*order)], came].concat();
            assert_eq!(fetching.fetch_for(&headers).await, Ok("200 origin GET /".into()));
            traced()
        };
        let as_it_came = [vec!["came"], vec!["a=1", "b=2"], vec!["k=v"]];
        assert_eq!(fetch("x-own yes", &came).await, as_it_came);
        assert_eq!(fetch("traceparent own", &came).await, as_it_came);
        assert_eq!(fetch("baggage own=1", &came).await, [vec!["came"], vec!["a=1", "b=2"], vec!["own=1"]]);
        let nothing: [Vec<&str>; 3] = [vec![], vec![], vec![]];
        assert_eq!(fetch("x-own yes", &[]).await, nothing);
        assert_eq!(fetch("traceparent own", &[]).await, [vec!["own"], vec![], vec![]]);
    });
}

#[test]
fn what_is_not_granted_or_malformed_is_never_sent() {
    on_core(async {
        let origin = Origin::named("origin").await;
        let fetching = Fetching::new(&origin, GRANT);
        for (order, answer) in [
            ("GET other /", "Error::Denied"),
            ("GET missing /", "Error::Denied"),
            ("GET origin users", "Error::Invalid(\"the path must begin with `/`\")"),
            ("G@T origin /", "Error::Invalid(\"the method is not a token\")"),
            ("GET origin / connection close", "Error::Invalid(\"`connection` is the gateway's to set\")"),
            ("GET origin / content-length 7", "Error::Invalid(\"`content-length` is the gateway's to set\")"),
            ("GET origin / Keep-Alive 7", "Error::Invalid(\"`keep-alive` is the gateway's to set\")"),
            ("GET origin / b@d x", "Error::Invalid(\"`b@d` is not a header name\")"),
        ] {
            assert_eq!(fetching.fetch(order).await, Ok(answer.into()), "{order}");
        }
        assert!(origin.seen().is_empty());
        assert_eq!(fetching.loaded.meter().read().grants_refused, 2);
    });
}

#[test]
fn a_grant_of_nothing_denies_without_waiting() {
    on_core(async {
        let origin = Origin::named("origin").await;
        let fetching = Fetching::new(&origin, "grants.fetch = []");
        assert_eq!(fetching.fetch("GET origin /").await, Ok("Error::Denied".into()));
    });
}

#[test]
fn an_upstream_that_cannot_be_reached_or_says_too_much_is_told_to_the_guest() {
    on_core(async {
        let origin = Origin::with(|_| Response::new(Full::from("x".repeat(5000)))).await;
        let binding = "grants.fetch = [\"origin\", \"nobody\"]\nbudget.fetch_limit = \"4KiB\"";
        let fetching = Fetching::new(&origin, binding);
        assert_eq!(fetching.fetch("GET nobody /").await, Ok("Error::Unavailable".into()));
        assert_eq!(fetching.fetch("GET origin /").await, Ok("Error::TooLarge".into()));
    });
}

#[test]
fn waiting_calls_share_a_core_and_the_queue_has_an_end() {
    on_core(async {
        // The responses come only when four requests have arrived, so the guests must wait at the same time.
        let four = Arc::new(tokio::sync::Barrier::new(4));
        let origin = Origin::serving(move |_| {
            let four = Arc::clone(&four);
            async move {
                four.wait().await;
                Response::new(http_body_util::BodyExt::boxed_unsync(Full::from("slow")))
            }
        })
        .await;
        let binding = format!("{GRANT}\ninstances = {{ max = 4, queue = 4, queue_timeout = \"2s\" }}");
        let fetching = Fetching::new(&origin, &binding);
        let calls = (0..9).map(|_| fetching.fetch("GET origin /"));
        let answers = futures_util::future::join_all(calls).await;
        let refused = answers.iter().filter(|answer| **answer == Err(CallFailure::Queue)).count();
        let good = answers.iter().filter(|answer| **answer == Ok("200 slow".into())).count();
        assert_eq!((good, refused), (8, 1), "four at once, four wait, one is too many: {answers:?}");
    });
}

/// A fetch ends before the wall time is used up, so that the guest can return a result; its wait does not count as
/// misbehaviour then.
#[test]
fn a_guest_that_waits_too_long_is_told_in_time_to_answer() {
    on_core(async {
        let origin = Origin::serving(|_| std::future::pending()).await;
        for wall in ["200ms", "100ms", "40ms"] {
            // With the default quarantine of a binding.
            let binding = format!("grants.fetch = [\"origin\"]\nbudget.wall = \"{wall}\"");
            let fetching = Fetching::new(&origin, &binding);
            for _ in 0..12 {
                let answer =
                    tokio::time::timeout(Duration::from_secs(10), fetching.fetch("GET origin /")).await;
                assert_eq!(answer, Ok(Ok("Error::Timeout".into())), "of {wall}");
            }
        }
    });
}

#[test]
fn the_wall_budget_covers_waiting() {
    on_core(async {
        let origin = Origin::serving(|_| std::future::pending()).await;
        let budget = "budget = { cpu = \"100ms\", wall = \"100ms\" }";
        let fetching = Fetching::new(&origin, &format!("{GRANT}\n{budget}"));
        let stubborn = fetching.fetch("stubborn GET origin /");
        let answer = tokio::time::timeout(Duration::from_secs(10), stubborn).await;
        assert_eq!(answer, Ok(Err(CallFailure::Wall)), "it was told that time is up, and did not answer");
        let fetching = Fetching::new(&origin, GRANT);
        assert_eq!(
            fetching.fetch("loop").await,
            Err(CallFailure::Cpu),
            "and computing is held to the CPU budget"
        );
    });
}

#[test]
fn a_call_dropped_while_it_waits_gives_back_everything() {
    on_core(async {
        let origin = Origin::serving(|_| std::future::pending()).await;
        let fetching = Fetching::new(&origin, &format!("{GRANT}\ninstances = {{ max = 2, queue = 2 }}"));
        let head = request(&[("x-fetch", "GET origin /")]);
        for _ in 0..20 {
            let call = Call { head: &head, fetch: &fetching.snapshot };
            let waiting = fetching.loaded.route(call);
            assert!(tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err());
        }
        assert_eq!(Arc::strong_count(&head), 1, "no store holds the request");
        assert_eq!(fetching.loaded.meter().read().abandoned, 20);
        assert_eq!(
            fetching.fetch("GET other /").await,
            Ok("Error::Denied".into()),
            "and the next call is served"
        );
    });
}

#[test]
fn there_are_no_upstreams_while_a_plugin_is_set_up() {
    on_core(async {
        let origin = Origin::named("origin").await;
        let config = config(&format!("{GRANT}\nsettings.early = true"), &upstreams(&origin));
        let bytes = std::fs::read(witgate_tests::guest("fetcher")).unwrap();
        let refusal = Scene::new().prepare(&bytes, &config).err().expect("the guest tells what it got");
        assert!(refusal.to_string().contains("Error::Unavailable"), "{refusal}");
        assert!(origin.seen().is_empty());
    });
}
