//! Tests of the table, and of destinations that only exist here: one that responds with the body of the request,
//! and one that wraps another.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use witgate_config::model::{Action, Forward, PathMatch, Rewrite};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};

use super::*;
use crate::testing;

/// The destination of a route with this path and action.
pub(super) fn built(path: &str, action: Action) -> Arc<dyn Destination> {
    let Ok(pattern) = Pattern::parse(Some(&path_match(path))) else { panic!("a test's path") };
    let inputs = BuildInputs {
        action: &action,
        pattern: &pattern,
        upstreams: &testing::upstreams(0, []),
        brokers: &Brokers::new(),
        merge_slashes: true,
        around: Default::default(),
        cache: None,
    };
    build(&inputs).unwrap_or_else(|mistake| panic!("{mistake:?}"))
}

fn path_match(path: &str) -> PathMatch {
    match path.strip_suffix("/*") {
        Some(prefix) => PathMatch::Prefix(if prefix.is_empty() { "/".into() } else { prefix.into() }),
        None => PathMatch::Pattern(path.into()),
    }
}

/// An action that forwards to the upstream `origin`.
pub(super) fn forward(rewrite: Rewrite) -> Action {
    Action::Forward(Forward {
        upstreams: vec![("origin".into(), 1)],
        rewrite,
        preserve_host: false,
        retry: Default::default(),
        mirror: None,
        bridge: Default::default(),
        transcode: None,
    })
}

/// The response of a destination to a request without a body, and whether the destination declares it as local.
pub(super) fn served(destination: &dyn Destination, method: Method, target: &str) -> (Response<Body>, bool) {
    let mut facts = testing::facts(testing::head(method, target, &[]));
    let served = testing::run(destination.serve(&mut facts, Body::Empty));
    (served.unwrap_or_else(|fault| panic!("{fault}")), facts.local_response)
}

/// Reads the whole body of the request and responds with it.
pub(crate) struct Echo;

impl Destination for Echo {
    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        MaybeReady::waiting(async move {
            let whole = body.collect().await.map_err(|error| {
                Fault::new(FaultKind::ClientGone).cause(format!("{} broke off: {error}", facts.head.path()))
            })?;
            Ok(Response::new(Body::from(whole.to_bytes())))
        })
    }
}

/// Responds by itself if its shelf has the path, and calls the wrapped destination otherwise.
pub(crate) struct Wrapper {
    pub(crate) inner: Arc<dyn Destination>,
    pub(crate) shelf: Vec<(&'static str, &'static str)>,
}

impl Destination for Wrapper {
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
        let found = self.shelf.iter().find(|(path, _)| *path == facts.head.path());
        if let Some((_, content)) = found {
            facts.local_response = true;
            return MaybeReady::over(Ok(Response::new(Body::from(Bytes::from_static(content.as_bytes())))));
        }
        MaybeReady::waiting(async move {
            let mut response = self.inner.serve(facts, body).await?;
            response.headers_mut().append("x-passed", "wrapper".parse().expect("a header value"));
            Ok(response)
        })
    }
}

#[test]
fn every_row_makes_destinations_of_its_own_kind_only() {
    let actions = [
        ("upstream", forward(Rewrite::Keep)),
        ("redirect", Action::Redirect { status: 308, location: "/b".into() }),
        ("respond", Action::Respond { status: 200, headers: Vec::new(), body: String::new() }),
        ("publish", publish::tests::action("to = \"orders\"")),
    ];
    let brokers = publish::tests::FakeBroker::new(Ok(())).named();
    let rows: Vec<_> = DESTINATIONS.iter().map(|row| row.kind).collect();
    assert_eq!(rows, actions.each_ref().map(|(kind, _)| *kind));
    let Ok(pattern) = Pattern::parse(None) else { panic!("no path is a path") };
    for (kind, action) in &actions {
        let inputs = BuildInputs {
            action,
            pattern: &pattern,
            upstreams: &testing::upstreams(0, []),
            brokers: &brokers,
            merge_slashes: true,
            around: Default::default(),
            cache: None,
        };
        let made: Vec<_> = DESTINATIONS
            .iter()
            .filter(|row| matches!((row.build)(&inputs), Some(Ok(_))))
            .map(|row| row.kind)
            .collect();
        assert_eq!(made, [*kind]);
    }
}

#[test]
fn wrappers_nest_and_are_destinations_themselves() {
    let once = Wrapper { inner: Arc::new(Echo), shelf: vec![("/kept", "from the inner shelf")] };
    let twice = Wrapper { inner: Arc::new(once), shelf: vec![("/near", "from the outer shelf")] };
    assert!(twice.reads_body());
    let ask = |target: &str| {
        let mut facts = testing::facts(testing::head(Method::POST, target, &[]));
        assert!(!twice.choose(&mut facts).unwrap(), "an echo asks no upstream");
        testing::run(async {
            let body = testing::chunks(vec![Ok(b"what was "), Ok(b"sent")]);
            let response = twice.serve(&mut facts, body).await.unwrap_or_else(|fault| panic!("{fault}"));
            let passed = response.headers().get_all("x-passed").iter().count();
            let body = testing::bytes(response.into_body()).await.unwrap();
            (String::from_utf8(body.to_vec()).unwrap(), passed, facts.local_response)
        })
    };
    assert_eq!(ask("/other"), ("what was sent".to_owned(), 2, false));
    assert_eq!(ask("/kept"), ("from the inner shelf".to_owned(), 1, true));
    assert_eq!(ask("/near"), ("from the outer shelf".to_owned(), 0, true));
}

#[test]
fn a_fault_of_the_inner_destination_passes_the_wrapper() {
    let wrapper = Wrapper { inner: Arc::new(Echo), shelf: Vec::new() };
    let mut facts = testing::facts(testing::head(Method::POST, "/a", &[]));
    let broken = testing::chunks(vec![Ok(b"half"), Err("reset")]);
    let fault = testing::run(wrapper.serve(&mut facts, broken)).expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::ClientGone);
    assert_eq!(fault.cause.as_deref(), Some("/a broke off: reset"));
    assert_eq!(facts.fault(fault).status(), StatusCode::from_u16(499).unwrap());
}

#[test]
fn one_of_several_upstreams_is_chosen_by_weight_for_each_request() {
    let Action::Forward(mut settings) = forward(Rewrite::Keep) else { panic!("it forwards") };
    settings.upstreams = vec![("a".into(), 3), ("b".into(), 1)];
    let destination = built("/*", Action::Forward(settings));
    let chosen = |_| {
        let mut facts = testing::facts(testing::head(Method::GET, "/", &[]));
        assert!(destination.choose(&mut facts).unwrap());
        facts.upstream
    };
    let chosen: Vec<_> = (0..100).map(chosen).collect();
    let second = chosen.iter().filter(|name| name.as_deref() == Some("b")).count();
    assert!((23..=27).contains(&second), "{second} of 100 for a share of a quarter");
}
