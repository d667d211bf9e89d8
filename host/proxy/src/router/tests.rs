//! Which route is taken, and that this does not depend on the order written.

use std::sync::Arc;

use http::Method;
use proptest::prelude::*;
use proptest::sample::subsequence;
use witgate_config::model::{
    self, Action, Auth, FieldMatch, Forward, PathMatch, Rewrite, RouteMatch, ValueMatch,
};

use super::{Found, Route, Router, Rule, Verdict};
use crate::filters::{Filter, Preflight, Stage};
use crate::testing;
use crate::testing::head;

/// Parses `METHOD[,METHOD] [host]/path [header=value] [?parameter=value]`; a path that ends in `/*` is a prefix.
fn matches(text: &str) -> RouteMatch {
    let mut matches = RouteMatch::default();
    for part in text.split(' ') {
        if let Some((name, value)) = part.split_once('=') {
            let value = match value {
                "*" => ValueMatch::Present,
                "!" => ValueMatch::Absent,
                value => match value.strip_prefix('~') {
                    Some(regex) => ValueMatch::Regex(regex.into()),
                    None => ValueMatch::Exact(value.into()),
                },
            };
            match name.strip_prefix('?') {
                Some(name) => matches.query.push(FieldMatch { name: name.into(), value }),
                None => matches.headers.push(FieldMatch { name: name.into(), value }),
            }
        } else if let Some(slash) = part.find('/') {
            matches.hosts.extend((slash > 0).then(|| part[..slash].to_owned()));
            let path = &part[slash..];
            matches.path = Some(match path.strip_suffix("/*") {
                Some(prefix) => PathMatch::Prefix(if prefix.is_empty() { "/".into() } else { prefix.into() }),
                None => PathMatch::Pattern(path.into()),
            });
        } else {
            matches.methods.extend(part.split(',').map(String::from));
        }
    }
    matches
}

fn config(name: &str, action: Action) -> model::Route {
    model::Route {
        name: name.into(),
        matches: matches(name),
        action,
        listeners: Vec::new(),
        plugins: Vec::new(),
        filters: Vec::new(),
        auth: Auth::Required,
        timeout: None,
        body_bytes: None,
        callers: model::Callers::default(),
        merge_slashes: true,
        cache: None,
    }
}

fn forward(rewrite: Rewrite) -> Action {
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

fn route(position: usize, config: model::Route) -> Arc<Route> {
    let rule =
        Rule::compile(position, &config, &testing::upstreams(0, []), &Default::default(), Default::default())
            .unwrap_or_else(|problems| panic!("{problems:?}"));
    Arc::new(Route::new(config, Arc::new(rule)))
}

/// A router whose routes are named by what they match.
fn router(routes: &[&str]) -> Router {
    let routes = routes.iter().enumerate();
    let routes = routes.map(|(position, name)| route(position, config(name, forward(Rewrite::Keep))));
    Router::new(routes.collect()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The name of the route taken; the allowed methods if only other methods match; `-` if no route matches.
fn taken(router: &Router, request: &str) -> String {
    match router.find(&request_head(request)) {
        Found::Route(route, _) => route.name.to_string(),
        Found::OtherMethods(methods) => methods.join(","),
        Found::Nothing => "-".into(),
    }
}

/// Parses `METHOD [host]/path[?query] [header=value]`.
fn request_head(request: &str) -> witgate_exchange::head::RequestHead {
    let mut parts = request.split(' ');
    let method: Method = parts.next().unwrap().parse().unwrap();
    let target = parts.next().unwrap();
    let (host, target) = target.split_at(target.find('/').unwrap());
    let headers: Vec<(&str, &str)> = parts.map(|part| part.split_once('=').unwrap()).collect();
    let mut head = head(method, target, &headers);
    if !host.is_empty() {
        head.authority = host.into();
    }
    head
}

/// Routes from the most specific to the least specific, for requests that match all of them.
const LADDER: &[&str] = &[
    "GET a.example/users/me x=1 y=2",
    "GET a.example/users/me x=1",
    "GET a.example/users/me",
    "a.example/users/me x=1 y=2",
    "a.example/users/me",
    "GET a.example/users/{id}",
    "a.example/users/{id}",
    "a.example/users/{*rest}",
    "a.example/users/*",
    "a.example/{kind}/me",
    "a.example/{kind}/{*rest}",
    "a.example/*",
    "*.example/users/me",
    "*.example/*",
    "/users/me",
    "/users/*",
    "/{*rest}",
    "/*",
];

proptest! {
    #[test]
    fn the_most_specific_is_taken_whatever_the_order_written(
        routes in subsequence(LADDER.to_vec(), 1..LADDER.len()).prop_shuffle()
    ) {
        let best = LADDER.iter().find(|route| routes.contains(route)).unwrap();
        prop_assert_eq!(&taken(&router(&routes), "GET a.example/users/me x=1 y=2"), best);
    }

    #[test]
    fn no_path_upsets_the_router(path in "(/([a-z%{}*.]|%2[fF]|){0,4}){1,40}") {
        let router = router(LADDER);
        if let Ok(target) = http::uri::PathAndQuery::try_from(path) {
            let mut head = head(Method::GET, "/", &[]);
            head.target = target;
            prop_assert!(matches!(router.find(&head), Found::Route(..)));
        }
    }
}

#[test]
fn a_place_that_refuses_does_not_hide_a_less_specific_one() {
    let router = router(&["GET /users/me", "POST /users/{id}", "/users/*", "x=1 /users/me"]);
    assert_eq!(taken(&router, "GET /users/me"), "GET /users/me");
    assert_eq!(taken(&router, "POST /users/me"), "POST /users/{id}");
    assert_eq!(taken(&router, "PUT /users/me x=1"), "x=1 /users/me");
    assert_eq!(taken(&router, "PUT /users/me"), "/users/*");
    assert_eq!(taken(&router, "GET /other"), "-");
}

#[test]
fn segments_are_whole_and_parameters_are_decoded() {
    let router = router(&["/users/{id}/files/{*rest}", "/users/{id}", "/api/*", "/caf%C3%A9"]);
    let Found::Route(route, parameters) = router.find(&request_head("GET /users/a%20b/files/c/d%2Fe")) else {
        panic!("not found");
    };
    assert_eq!(&*route.name, "/users/{id}/files/{*rest}");
    assert_eq!(parameters, [("id".into(), "a b".into()), ("rest".into(), "c/d/e".into())]);
    for (path, expected) in [
        ("/users/a%2Fb", "/users/{id}"),
        ("/users/", "-"),
        ("/users/a/", "-"),
        ("/users/a/files", "-"),
        ("/users/a/files/", "/users/{id}/files/{*rest}"),
        ("/api", "/api/*"),
        ("/api/", "/api/*"),
        ("/api/a/b", "/api/*"),
        ("/apis", "-"),
        ("/caf%c3%a9", "/caf%C3%A9"),
    ] {
        assert_eq!(taken(&router, &format!("GET {path}")), expected, "{path}");
    }
}

#[test]
fn hosts_are_exact_or_one_wildcard_label() {
    let router = router(&["a.example/*", "*.example/*"]);
    for (host, expected) in [
        ("a.example", "a.example/*"),
        ("a.example:8080", "a.example/*"),
        ("b.example", "*.example/*"),
        ("a.b.example", "-"),
        ("example", "-"),
    ] {
        assert_eq!(taken(&router, &format!("GET {host}/")), expected, "{host}");
    }
}

#[test]
fn methods_stand_in_for_each_other_as_http_has_it() {
    let router = router(&["GET,PUT /a", "HEAD /b", "GET /b", "OPTIONS /c", "DELETE /c", "POST /*"]);
    assert_eq!(taken(&router, "HEAD /a"), "GET,PUT /a");
    assert_eq!(taken(&router, "HEAD /b"), "HEAD /b");
    assert_eq!(taken(&router, "DELETE /a"), "GET,HEAD,POST,PUT");
    assert_eq!(taken(&router, "OPTIONS /a"), "GET,HEAD,POST,PUT");
    let preflight = "origin=https://b.example access-control-request-method=DELETE";
    assert_eq!(taken(&router, &format!("OPTIONS /c {preflight}")), "OPTIONS /c");
    let preflight = "origin=https://b.example access-control-request-method=PUT";
    assert_eq!(taken(&router, &format!("OPTIONS /a {preflight}")), "GET,PUT /a");
}

/// A filter that answers what it takes for preflights: requests that say in `x-about` which method they are about.
struct Preflights;

impl Filter for Preflights {
    fn preflight(&self) -> Option<Preflight> {
        Some(|head| head.headers.get("x-about")?.to_str().ok()?.parse().ok())
    }
}

#[test]
fn a_preflight_takes_the_route_it_asks_about_where_a_filter_answers_it() {
    let names = ["OPTIONS /a", "PUT /a", "DELETE /a", "PUT /b"];
    let mut routes: Vec<_> = names
        .into_iter()
        .enumerate()
        .map(|(position, name)| route(position, config(name, forward(Rewrite::Keep))))
        .collect();
    let taken = |router: &Router, request: &str| match router.route(&request_head(request)) {
        Found::Route(route, _) => route.name.to_string(),
        Found::OtherMethods(methods) => methods.join(","),
        Found::Nothing => "-".into(),
    };
    let without = Router::new(routes.clone()).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(taken(&without, "OPTIONS /a x-about=PUT"), "OPTIONS /a");
    let mut answering = Route::new(routes[1].config.clone(), routes[1].rule.clone());
    answering.filters.push((Stage::Edge, Arc::new(Preflights)));
    routes[1] = Arc::new(answering);
    let router = Router::new(routes).unwrap_or_else(|problems| panic!("{problems:?}"));
    for (request, expected) in [
        ("OPTIONS /a x-about=PUT", "PUT /a"),
        ("OPTIONS /a x-about=DELETE", "OPTIONS /a"),
        ("OPTIONS /a x-about=PATCH", "OPTIONS /a"),
        ("OPTIONS /a", "OPTIONS /a"),
        ("OPTIONS /b x-about=PUT", "PUT"),
    ] {
        assert_eq!(taken(&router, request), expected, "{request}");
    }
}

#[test]
fn conditions_on_headers_and_query() {
    let router = router(&["/a v=~[0-9]+ w=!", "/a ?q=x+y", "/a ?flag=*", "/b v=1"]);
    assert_eq!(taken(&router, "GET /a v=12"), "/a v=~[0-9]+ w=!");
    assert_eq!(taken(&router, "GET /a v=12b"), "-");
    assert_eq!(taken(&router, "GET /a v=12 w=1"), "-");
    assert_eq!(taken(&router, "GET /a?flag"), "/a ?flag=*");
    assert_eq!(taken(&router, "GET /a?p=1&q=x%2By"), "/a ?q=x+y");
    assert_eq!(taken(&router, "GET /a?q=x+y"), "-");
}

#[test]
fn routes_that_could_never_be_taken_are_problems() {
    let clash = |routes: &[&str]| {
        let routes = routes.iter().enumerate();
        let routes = routes.map(|(position, name)| route(position, config(name, forward(Rewrite::Keep))));
        Router::new(routes.collect()).err().map(|problems| problems.len()).unwrap_or_default()
    };
    assert_eq!(clash(&["/a", "/a"]), 1);
    assert_eq!(clash(&["/users/{id}", "/users/{name}"]), 1);
    assert_eq!(clash(&["GET,POST /a", "POST,PUT /a", "PUT /a"]), 2);
    assert_eq!(clash(&["/a x=1 y=2", "/a y=2 x=1"]), 1);
    assert_eq!(clash(&["/a", "GET /a", "/a x=1", "/a x=2", "a.example/a", "/a/*", "/a/{*rest}"]), 0);
}

#[test]
fn what_cannot_be_a_route_is_told_with_its_key() {
    let mut wrong = config("FOO /a/{id", forward(Rewrite::Keep));
    wrong.matches.headers.push(FieldMatch { name: "x".into(), value: ValueMatch::Regex("(a".into()) });
    wrong.matches.methods.push("GET IT".into());
    let keys = |config: &model::Route| -> Vec<String> {
        let problems =
            Rule::compile(3, config, &testing::upstreams(0, []), &Default::default(), Default::default())
                .err()
                .unwrap_or_default();
        problems.into_iter().map(|problem| problem.key).collect()
    };
    assert_eq!(keys(&wrong), ["routes[3].path", "routes[3].methods[1]", "routes[3].headers.x"]);
    let rewrite = config("/a/{id}", forward(Rewrite::Template("/b/{name}".into())));
    assert_eq!(keys(&rewrite), ["routes[3].rewrite"]);
    let redirect = Action::Redirect { status: 308, location: "/{id".into() };
    assert_eq!(keys(&config("/a/{id}", redirect)), ["routes[3].redirect"]);
}

#[test]
fn the_decision_is_explained() {
    let router = router(&["/a x=1", "GET /a", "POST /a", "/a/*", "/*"]);
    let considered = router.explain(&request_head("GET /a"));
    let verdicts: Vec<_> = considered.iter().map(|one| (&*one.route, one.verdict.clone())).collect();
    assert_eq!(
        verdicts,
        [
            ("GET /a", Verdict::Taken),
            ("POST /a", Verdict::OtherMethod),
            ("/a x=1", Verdict::Header("x".into())),
            ("/a/*", Verdict::LessSpecific),
            ("/*", Verdict::LessSpecific),
        ]
    );
}

#[test]
fn ten_thousand_routes_are_found_as_fast_as_ten() {
    let many = |count: usize| {
        let routes = (0..count).map(|index| {
            let name = format!("GET host{}.example/service{index}/{{id}}", index % 100);
            route(index, config(&name, forward(Rewrite::Keep)))
        });
        Router::new(routes.collect()).unwrap_or_else(|problems| panic!("{problems:?}"))
    };
    let time = |router: &Router, request: &str| {
        let head = request_head(request);
        let rounds = (0..7).map(|_| {
            let begun = std::time::Instant::now();
            for _ in 0..2000 {
                assert!(matches!(router.find(&head), Found::Route(..)));
            }
            begun.elapsed()
        });
        rounds.min().unwrap()
    };
    let few = time(&many(10), "GET host5.example/service5/x");
    let most = time(&many(10_000), "GET host55.example/service7755/x");
    assert!(most < few * 5, "{few:?} with 10 routes, {most:?} with 10,000");
}
