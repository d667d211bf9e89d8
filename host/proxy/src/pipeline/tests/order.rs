//! The order in which stages are called, down and up.

use std::sync::{Arc, Mutex};

use http::{Method, Response, StatusCode};
use tokio::sync::Notify;
use witgate_exchange::contracts::*;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::FaultKind;

use super::fake::{Fake, header, local, set};
use super::*;
use crate::filters::Step;

type Journal = Arc<Mutex<Vec<String>>>;

/// A filter that notes when it is entered and left.
struct Noting {
    name: &'static str,
    journal: Journal,
    refuses: bool,
}

impl Filter for Noting {
    fn request<'a>(&'a self, _: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        self.journal.lock().unwrap().push(format!("{} down", self.name));
        MaybeReady::over(match self.refuses {
            true => Err(Fault::new(FaultKind::Forbidden)),
            false => Ok(Step::Proceed(body)),
        })
    }

    fn response<'a>(&'a self, _: &'a mut Facts, response: Response<Body>) -> MaybeReady<'a, Response<Body>> {
        self.journal.lock().unwrap().push(format!("{} up", self.name));
        MaybeReady::over(response)
    }
}

/// One plugin of each contract, two transformations, and filters of both places.
fn everything(journal: &Journal, refuses: Option<&'static str>) -> Fixture {
    let noting = |name: &'static str| {
        let journal = Arc::clone(journal);
        move || journal.lock().unwrap().push(name.to_owned())
    };
    let (auth, limit, route) = (noting("authentication"), noting("rate limiting"), noting("routing"));
    let transformation = |name: &'static str, down, up| {
        let (down, up) = (noting(down), noting(up));
        Fake::new(name)
            .request(move |_| {
                down();
                Ok(RequestOutcome::Proceed(RequestChanges::default()))
            })
            .response(move |_| {
                up();
                Ok(ResponseOutcome::Proceed(ResponseChanges::default()))
            })
    };
    let mut fixture = Fixture::new([
        transformation("one", "one down", "one up"),
        transformation("two", "two down", "two up"),
        Fake::new("route").route(move |_| {
            route();
            Ok(None)
        }),
        Fake::new("limit").draw(move |_| {
            limit();
            Ok(Vec::new())
        }),
        Fake::new("auth").authenticate(move |_| {
            auth();
            Ok(Decision::Accepted(authentication::acceptance("ann")))
        }),
    ]);
    for (place, name) in [(Stage::Edge, "edge"), (Stage::Edge, "cors"), (Stage::Origin, "origin")] {
        let filter = Noting { name, journal: Arc::clone(journal), refuses: refuses == Some(name) };
        fixture.filters.push((place, Arc::new(filter)));
    }
    fixture
}

#[test]
fn filters_and_phases_run_in_their_order_and_in_reverse() {
    let journal = Journal::default();
    let fixture = everything(&journal, None);
    let response = through(&mut fixture.get("/", &[]), Response::new(Body::Empty));
    assert_eq!(response.status(), 200);
    let expected = [
        "edge down",
        "cors down",
        "authentication",
        "rate limiting",
        "routing",
        "one down",
        "two down",
        "origin down",
        "origin up",
        "two up",
        "one up",
        "cors up",
        "edge up",
    ];
    assert_eq!(*journal.lock().unwrap(), expected);
}

/// A filter that waits on the way down and on the way up, until the test notifies it.
struct Waiting {
    journal: Journal,
    /// Woken once for each wait.
    go: Arc<Notify>,
}

impl Filter for Waiting {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        MaybeReady::waiting(async move {
            self.journal.lock().unwrap().push("waits down".to_owned());
            self.go.notified().await;
            let head = Arc::make_mut(&mut facts.head);
            head.headers.insert("x-waited", "down".parse().unwrap());
            Ok(Step::Proceed(body))
        })
    }

    fn response<'a>(
        &'a self,
        facts: &'a mut Facts,
        mut response: Response<Body>,
    ) -> MaybeReady<'a, Response<Body>> {
        MaybeReady::waiting(async move {
            self.journal.lock().unwrap().push("waits up".to_owned());
            self.go.notified().await;
            response.headers_mut().insert("x-waited", facts.head.headers["x-waited"].clone());
            response
        })
    }
}

#[test]
fn a_filter_that_waits_holds_up_its_own_request_and_nothing_else() {
    let journal = Journal::default();
    let mut fixture = everything(&journal, None);
    let go = Arc::new(Notify::new());
    let waiting = Waiting { journal: Arc::clone(&journal), go: Arc::clone(&go) };
    fixture.filters.insert(1, (Stage::Edge, Arc::new(waiting)));
    let mut exchange = fixture.get("/", &[]);
    let response = testing::run(async {
        let mut walk = std::pin::pin!(async {
            let Ok(Descent::Passed(_)) = descend(&mut exchange, Body::Empty).await else {
                panic!("not forwarded")
            };
            ascended(&mut exchange, Response::new(Body::Empty)).await
        });
        assert!(futures_util::poll!(&mut walk).is_pending());
        assert_eq!(*journal.lock().unwrap(), ["edge down", "waits down"]);
        go.notify_one();
        // The following stages yield to other requests from time to time.
        while journal.lock().unwrap().last().is_none_or(|last| last != "waits up") {
            assert!(futures_util::poll!(&mut walk).is_pending());
        }
        assert_eq!(*journal.lock().unwrap().last().unwrap(), "waits up");
        go.notify_one();
        walk.await
    });
    assert_eq!(values(response.headers(), "x-waited"), "down");
    let up = ["origin up", "two up", "one up", "cors up", "waits up", "edge up"];
    assert!(journal.lock().unwrap().ends_with(&up.map(str::to_owned)), "{journal:?}");
}

#[test]
fn a_client_may_go_away_while_a_filter_waits() {
    let journal = Journal::default();
    let mut fixture = everything(&journal, None);
    let waiting = Waiting { journal: Arc::clone(&journal), go: Arc::default() };
    fixture.filters.insert(0, (Stage::Edge, Arc::new(waiting)));
    let mut exchange = fixture.get("/", &[]);
    testing::run(async {
        let mut down = std::pin::pin!(descend(&mut exchange, Body::Empty));
        assert!(futures_util::poll!(&mut down).is_pending());
    });
    assert_eq!(
        exchange.origin_filters_entered, 0,
        "only the edge was entered, whose filters see every response"
    );
    drop(exchange);
    assert_eq!(*journal.lock().unwrap(), ["waits down"]);
}

#[test]
fn a_refusal_goes_up_only_through_what_was_entered() {
    let journal = Journal::default();
    let fixture = everything(&journal, Some("cors"));
    let response = through(&mut fixture.get("/", &[]), Response::new(Body::Empty));
    assert_eq!(response.status(), 403);
    assert_eq!(*journal.lock().unwrap(), ["edge down", "cors down", "cors up", "edge up"]);

    let journal = Journal::default();
    let mut fixture = everything(&journal, None);
    let early = Fake::new("early").request(|_| Ok(RequestOutcome::Respond(local(202, Vec::new(), "early"))));
    fixture.plugins.insert(1, Arc::new(early));
    let response = through(&mut fixture.get("/", &[]), Response::new(Body::Empty));
    assert_eq!(response.status(), 202);
    let up: Vec<_> = journal.lock().unwrap().iter().filter(|line| line.ends_with("up")).cloned().collect();
    assert_eq!(up, ["one up", "cors up", "edge up"]);
}

#[test]
fn a_route_that_answers_by_itself_is_protected_and_transformed() {
    let accept = |head: Arc<witgate_exchange::head::RequestHead>| match head.headers.get("x-key") {
        Some(_) => Ok(Decision::Accepted(authentication::acceptance("ann"))),
        None => Ok(Decision::NotMine(vec!["Key".into()])),
    };
    let mark = |_| {
        let headers = vec![HeaderChange::Set(header("x-frame-options", "DENY"))];
        Ok(ResponseOutcome::Proceed(ResponseChanges { headers, ..ResponseChanges::default() }))
    };
    let mut fixture = Fixture::new([Fake::new("key").authenticate(accept), Fake::new("mark").response(mark)]);
    fixture.route.action = Action::Respond { status: 200, headers: Vec::new(), body: "hello".to_owned() };
    let response = through(&mut fixture.get("/", &[]), Response::new(Body::Empty));
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let response = through(&mut fixture.get("/", &[("x-key", "1")]), Response::new(Body::Empty));
    assert_eq!(response.status(), 200);
    assert_eq!(values(response.headers(), "x-frame-options"), "DENY");
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"hello");
}

#[test]
fn requests_that_are_ready_together_make_their_calls_together_and_go_out_together() {
    let journal = Journal::default();
    let note = |entry: &str| journal.lock().unwrap().push(entry.to_owned());
    let called = Arc::clone(&journal);
    let route = move |_| {
        called.lock().unwrap().push("called".to_owned());
        Ok(None)
    };
    let fixture = Fixture::new([Fake::new("route").route(route).pure(Function::Route, &[Input::Path])]);
    let down = async |target: &str| {
        let mut exchange = fixture.get(target, &[]);
        note("begun");
        assert!(matches!(descend(&mut exchange, Body::Empty).await, Ok(Descent::Passed(_))));
        note("forwarded");
    };
    let steps = || {
        testing::run(async { tokio::join!(down("/one"), down("/other")) });
        std::mem::take(&mut *journal.lock().unwrap())
    };
    assert_eq!(steps(), ["begun", "begun", "called", "called", "forwarded", "forwarded"]);
    assert_eq!(steps(), ["begun", "begun", "forwarded", "forwarded"], "the answers are remembered");
}

#[test]
fn every_call_is_noted() {
    let fixture = Fixture::new([
        Fake::new("broken").request(|_| Err(CallFailure::Trap)).skip(),
        Fake::new("fine").request(|_| Ok(RequestOutcome::Proceed(set("x-a", "1")))),
    ]);
    let mut exchange = fixture.exchange(Method::GET, "/", &[]);
    forwarded(&mut exchange, Body::Empty);
    let calls = exchange.facts.record.plugins.take();
    let facts: Vec<_> = calls.iter().map(|call| (&*call.binding, call.phase, call.failure)).collect();
    assert_eq!(facts, [("broken", "request", Some(CallFailure::Trap)), ("fine", "request", None)]);
}

#[test]
fn a_failed_call_denies_or_is_skipped_as_declared() {
    for failure in [CallFailure::Trap, CallFailure::Cpu, CallFailure::Memory, CallFailure::Queue] {
        let fixture = Fixture::new([Fake::new("broken").request(move |_| Err(failure))]);
        let fault = refused(&mut fixture.get("/", &[]), Body::Empty);
        assert_eq!(fault.kind, FaultKind::PluginFailed);
        assert_eq!(fault.kind.describe().status, 503);
        assert!(fault.detail.is_none(), "the client is not told about plugins");
        let fixture = Fixture::new([Fake::new("broken").request(move |_| Err(failure)).skip()]);
        forwarded(&mut fixture.get("/", &[]), Body::Empty);
    }
}

#[test]
fn a_client_may_go_away_in_the_middle_of_any_call() {
    let journal = Journal::default();
    let fixture = everything(&journal, None);
    for polls in 0..8 {
        let mut exchange = fixture.get("/", &[]);
        testing::run(async {
            let mut down = std::pin::pin!(descend(&mut exchange, Body::Empty));
            for _ in 0..polls {
                if futures_util::poll!(&mut down).is_ready() {
                    break;
                }
            }
        });
        drop(exchange);
    }
    let response = through(&mut fixture.get("/", &[]), Response::new(Body::Empty));
    assert_eq!(response.status(), 200);
}
