//! What a plugin reads of a request.

use witgate_sdk::test;

#[test]
fn headers_are_found_whatever_their_case_and_keep_their_order() {
    let request = test::request().header("Accept", "a").header("x-b", "1").header("ACCEPT", "b").build();
    assert_eq!(request.header("accept"), Some("a"));
    assert_eq!(request.values("Accept").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(request.values("accept").only(), None, "two are not one");
    assert_eq!(request.values("X-B").only(), Some("1"));
    assert_eq!(request.header("absent"), None);
    assert_eq!(request.values("absent").count(), 0);
}

#[test]
fn a_header_that_is_not_text_is_still_bytes() {
    let request = test::request().header("x", [0xff]).build();
    assert_eq!(request.header("x"), None);
    assert_eq!(request.values("x").next(), Some(&[0xff][..]));
}

#[test]
fn query_parameters_are_decoded() {
    let request = test::request().path("/?a=1&b=x%20y+z&c&a=2&%64=e&bad=%ff&half=%4&%zz=odd").build();
    let parameter = |name| request.query_parameter(name);
    assert_eq!(parameter("a").as_deref(), Some("1"), "the first");
    assert_eq!(parameter("b").as_deref(), Some("x y z"));
    assert_eq!(parameter("c").as_deref(), Some(""));
    assert_eq!(parameter("d").as_deref(), Some("e"));
    assert_eq!(parameter("bad"), None, "not UTF-8");
    assert_eq!(parameter("half").as_deref(), Some("%4"), "not an escape");
    assert_eq!(parameter("%zz").as_deref(), Some("odd"));
    assert_eq!(parameter("absent"), None);
    assert_eq!(test::request().path("/").build().query(), None);
    assert_eq!(test::request().path("/?").build().query(), Some(""));
}

#[test]
fn cookies_are_found_in_all_cookie_headers() {
    let request = test::request().header("cookie", "a=1; b=\"two\"").header("cookie", "c=x=y").build();
    assert_eq!(request.cookie("a"), Some("1"));
    assert_eq!(request.cookie("b"), Some("two"));
    assert_eq!(request.cookie("c"), Some("x=y"));
    assert_eq!(request.cookie("A"), None, "case matters");
}

#[test]
fn what_a_test_says_is_what_the_plugin_sees() {
    let request = test::request()
        .method("POST")
        .path("/users/7?full")
        .authority("api.example.test:8443")
        .scheme("https")
        .client_address("2001:db8::1")
        .client_certificate("subject", "CN=ada")
        .route("users")
        .path_parameter("id", "7")
        .original_path("/./users/7")
        .request_id("r-1")
        .trace_parent("00-a-b-01")
        .trailer("x-checksum", "1")
        .build();
    assert_eq!((request.method(), request.path(), request.query()), ("POST", "/users/7", Some("full")));
    assert_eq!((request.authority(), &*request.scheme()), ("api.example.test:8443", "https"));
    assert_eq!(request.client_address(), "2001:db8::1");
    assert_eq!(request.client_certificate(), [("subject".to_owned(), "CN=ada".to_owned())]);
    assert_eq!((&*request.route(), request.path_parameter("id").as_deref()), ("users", Some("7")));
    assert_eq!(request.path_parameter("name"), None);
    assert_eq!((&*request.original_path(), &*request.request_id()), ("/./users/7", "r-1"));
    assert_eq!((&*request.trace_parent(), request.trailers().len()), ("00-a-b-01", 1));
    assert_eq!(request.identity(), None);
}
