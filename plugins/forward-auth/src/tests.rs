//! One test for each promise of the README.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use witgate_sdk::fetch::Error;
use witgate_sdk::test;

fn plugin(settings: &str) -> ForwardAuth {
    test::configure(settings).expect("the settings are good")
}

fn service(gateway: &test::Gateway, answer: InboundResponse) -> Rc<RefCell<Result<InboundResponse, Error>>> {
    let answer = Rc::new(RefCell::new(Ok(answer)));
    let held = Rc::clone(&answer);
    gateway.upstream("auth", move |_| held.borrow().clone());
    answer
}

fn sent(gateway: &test::Gateway, name: &str) -> Vec<String> {
    let asked = gateway.fetched();
    let headers = asked.last().expect("it was asked").headers.iter().filter(|header| header.name == name);
    headers.map(|header| String::from_utf8_lossy(&header.value).into_owned()).collect()
}

#[test]
fn the_service_is_told_which_request_it_decides_about() {
    let gateway = test::Gateway::new();
    let _answer = service(&gateway, InboundResponse::new(204, ""));
    let plugin = plugin(r#"{ "upstream": "auth", "path": "/check?of=me" }"#);
    let request = test::request()
        .method("DELETE")
        .path("/orders/1?force=yes")
        .authority("shop.example")
        .scheme("https")
        .client_address("198.51.100.9")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("authorization", "Bearer x")
        .header("x-forwarded-method", "GET")
        .header("x-other", "kept here");
    assert!(matches!(plugin.authenticate(&request.build()), Decision::Accepted(_)));
    let asked = &gateway.fetched()[0];
    assert_eq!((&*asked.method, &*asked.path, asked.body.len()), ("GET", "/check?of=me", 0));
    for (name, values) in [
        ("x-forwarded-method", vec!["DELETE"]),
        ("x-forwarded-proto", vec!["https"]),
        ("x-forwarded-host", vec!["shop.example"]),
        ("x-forwarded-uri", vec!["/orders/1?force=yes"]),
        ("x-forwarded-for", vec!["198.51.100.9"]),
        ("cookie", vec!["a=1", "b=2"]),
        ("authorization", vec!["Bearer x"]),
        ("x-other", vec![]),
        ("content-type", vec![]),
    ] {
        assert_eq!(sent(&gateway, name), values, "{name}");
    }
}

#[test]
fn an_answer_of_2xx_lets_on_with_the_named_headers() {
    let gateway = test::Gateway::new();
    let answer = InboundResponse::new(200, "ignored")
        .with_header("x-user", "ada")
        .with_header("x-secret", "no")
        .with_header("set-cookie", "a=1")
        .with_header("set-cookie", "b=2");
    let _answer = service(&gateway, answer);
    let plugin = plugin(
        r#"{ "upstream": "auth", "to_upstream": ["X-User", "X-Groups"], "to_client": ["set-cookie"],
             "subject": "x-user" }"#,
    );
    let Decision::Accepted(accepted) = plugin.authenticate(&test::request().build()) else {
        panic!("let on")
    };
    assert_eq!(accepted.identity, Identity::new("ada").with_claim("forward-auth:x-user", "ada"));
    assert_eq!(accepted.cacheable_for, 0, "each request asks");
    let remembering =
        test::configure::<ForwardAuth>(r#"{ "upstream": "auth", "cache_for": "1m" }"#).expect("good");
    let Decision::Accepted(again) = remembering.authenticate(&test::request().build()) else {
        panic!("let on")
    };
    assert_eq!(again.cacheable_for, 60_000);
    let cookies = accepted.response_headers.iter().filter(|header| header.name == "set-cookie").count();
    assert_eq!((cookies, accepted.response_headers.len()), (2, 2));

    let RequestOutcome::Proceed(changes) = plugin.on_request(&test::request().build()) else {
        panic!("it goes on")
    };
    let expected = RequestChanges::none()
        .set_composed("x-user", [ValuePart::claim("forward-auth:x-user")])
        .set_composed("x-groups", [ValuePart::claim("forward-auth:x-groups")]);
    assert_eq!(changes, expected, "what the client sent under these names is replaced or removed");
}

#[test]
fn any_other_answer_is_the_clients() {
    let gateway = test::Gateway::new();
    let held = service(&gateway, InboundResponse::new(204, ""));
    let plugin = plugin(r#"{ "upstream": "auth" }"#);
    for status in [302, 401, 403, 429, 500] {
        let answer = InboundResponse::new(status, "go away")
            .with_header("location", "/login")
            .with_header("set-cookie", "a=1")
            .with_header("set-cookie", "b=2")
            .with_header("www-authenticate", "Basic")
            .with_header("content-type", "text/plain")
            .with_header("content-length", "7")
            .with_header("server", "secret");
        *held.borrow_mut() = Ok(answer);
        let Decision::Refused(response) = plugin.authenticate(&test::request().build()) else {
            panic!("{status}")
        };
        assert_eq!((response.status, &response.body[..]), (status, &b"go away"[..]));
        let names: Vec<&str> = response.headers.iter().map(|header| header.name.as_str()).collect();
        assert_eq!(names, ["location", "set-cookie", "set-cookie", "www-authenticate", "content-type"]);
    }
    for (answer, status) in [
        (Err(Error::Unavailable), 503),
        (Err(Error::Timeout), 503),
        (Err(Error::Denied), 503),
        (Err(Error::TooLarge), 503),
        (Ok(InboundResponse::new(304, "")), 502),
        (Ok(InboundResponse::new(100, "")), 502),
    ] {
        *held.borrow_mut() = answer.clone();
        let Decision::Refused(response) = plugin.authenticate(&test::request().build()) else {
            panic!("{answer:?}")
        };
        assert_eq!(response.status, status, "{answer:?}");
    }
}

#[test]
fn bodies_are_sent_only_where_that_is_said() {
    let gateway = test::Gateway::new();
    let _answer = service(&gateway, InboundResponse::new(204, ""));
    let request = test::request().method("POST").header("content-type", "application/json").build();
    let without = plugin(r#"{ "upstream": "auth" }"#);
    assert_eq!(without.reads(), Reading::peek(1));
    assert!(matches!(without.authenticate(&request), Decision::Accepted(_)));
    assert!(matches!(without.authenticate_by_body(&Body::whole("{"), &request), Decision::Accepted(_)));
    assert_eq!(gateway.fetched().len(), 2, "the service is asked again, without the body");
    assert!(gateway.fetched().iter().all(|asked| asked.body.is_empty()));

    let with = plugin(r#"{ "upstream": "auth", "max_body": 1024, "forward": ["content-type"] }"#);
    assert_eq!(with.reads(), Reading::whole(1024));
    assert_eq!(with.authenticate(&request), Decision::NotMine(Vec::new()));
    assert!(matches!(with.authenticate_by_body(&Body::whole("{}"), &request), Decision::Accepted(_)));
    let asked = &gateway.fetched()[2];
    assert_eq!((&*asked.method, &asked.body[..]), ("POST", &b"{}"[..]));
    assert_eq!(sent(&gateway, "content-type"), ["application/json"]);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (settings, pointer) in [
        (r#"{ "upstream": "auth", "path": "check" }"#, "/path"),
        (r#"{ "upstream": "auth", "forward": ["cookie", "Host"] }"#, "/forward/1"),
        (r#"{ "upstream": "auth", "forward": ["X-Forwarded-For"] }"#, "/forward/0"),
        (r#"{ "upstream": "auth", "to_upstream": ["content-length"] }"#, "/to_upstream/0"),
        (r#"{ "upstream": "auth", "refusal": ["a b"] }"#, "/refusal/0"),
        (r#"{ "upstream": "auth", "max_body": 1, "cache_for": "1s" }"#, "/cache_for"),
        (r#"{ "upstream": "auth", "to_client": ["x-a", "set-cookie"], "cache_for": "1s" }"#, "/to_client/1"),
        (r#"{ "path": "/" }"#, ""),
    ] {
        let problems = test::configure::<ForwardAuth>(settings).err().expect("they are wrong");
        assert_eq!(problems[0].pointer, pointer, "{settings}");
    }
}
