//! What the gateway would refuse of a result fails the test at the line that makes it, by the gateway's own rules.

use std::panic::{AssertUnwindSafe, catch_unwind};

use witgate_sdk::{
    Acceptance, Destination, Header, HeaderChange, Identity, RequestChanges, Response, ResponseChanges,
    ValuePart,
};

/// The message of the panic with which something is refused.
fn refused<T>(make: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(make()))).expect_err("it is refused");
    *panic.downcast::<String>().expect("a message")
}

fn accepted() -> Acceptance {
    Identity::new("ada").into()
}

#[test]
fn names_of_headers_are_kept_in_lower_case() {
    let response = Response::new(200).with_header("Content-Type", "text/plain");
    assert_eq!(response.headers[0].name, "content-type");
    assert_eq!(accepted().with_response_header("Set-Cookie", "a=b").response_headers[0].name, "set-cookie");
    assert_eq!(Destination::to("a").with_response_header("X-A", "b").response_headers[0].name, "x-a");
    let changes = RequestChanges::none()
        .set("X-User", "ada")
        .append("X-Role", "admin")
        .remove("X-Secret")
        .set_composed("X-Who", [ValuePart::request_header("X-User")]);
    let names: Vec<&str> = changes
        .headers
        .iter()
        .map(|change| match change {
            HeaderChange::Set(header) | HeaderChange::Append(header) => header.name.as_str(),
            HeaderChange::Remove(name) => name,
            HeaderChange::SetComposed(header) | HeaderChange::AppendComposed(header) => &header.name,
        })
        .collect();
    assert_eq!(names, ["x-user", "x-role", "x-secret", "x-who"]);
    assert_eq!(Header::new("Accept", "*/*").name, "accept");
    assert!(matches!(ValuePart::response_header("ETag"), ValuePart::ResponseHeader(name) if name == "etag"));
}

#[test]
fn what_the_gateway_would_refuse_fails_where_it_is_made() {
    for (message, part) in [
        (refused(|| Response::new(200).with_header("x-a", "a\nb")), "control bytes"),
        (refused(|| Response::new(200).with_header("x-a", " a")), "white space"),
        (refused(|| Response::new(200).with_header("Transfer-Encoding", "chunked")), "is the gateway's"),
        (refused(|| Response::new(200).with_header("a b", "c")), "lower-case token"),
        (refused(|| Response::new(101)), "status 101"),
        (refused(|| Response::new(999)), "status 999"),
        (refused(|| Response::new(204).with_body("text")), "has no body"),
        (refused(|| Response::unauthorized("Bearer\r\nx: y")), "control bytes"),
        (refused(|| accepted().with_response_header("connection", "close")), "is the gateway's"),
        (refused(|| Destination::to("a").with_response_header("x-a", "\0")), "control bytes"),
        (refused(|| RequestChanges::none().set("Host", "a")), "is the gateway's"),
        (refused(|| RequestChanges::none().remove("x-forwarded-for")), "is the gateway's"),
        (
            refused(|| RequestChanges::none().append_composed("te", [ValuePart::text("a")])),
            "is the gateway's",
        ),
        (refused(|| RequestChanges::none().with_method("CONNECT")), "CONNECT"),
        (refused(|| ResponseChanges::none().set("content-length", "1")), "is the gateway's"),
        (refused(|| ResponseChanges::none().with_status(100)), "status 100"),
    ] {
        assert!(message.starts_with("the gateway refuses") && message.contains(part), "{message}");
    }
    // A response may name what a request may not.
    assert_eq!(ResponseChanges::none().set("Via", "a").headers.len(), 1);
}
