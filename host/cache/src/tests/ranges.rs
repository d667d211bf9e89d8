//! Ranges of a stored response (RFC 9110 section 14).

use http::Method;
use witgate_exchange::testing::{self, run};

use super::*;

fn scene() -> Scene {
    let headers = [
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"),
        ("content-length", "10"),
    ];
    Scene::new(&settings(), Box::new(move |_| Ok(testing::response(&headers, "0123456789"))))
}

#[test]
fn ranges_are_cut_from_the_whole_response() {
    run(async {
        let scene = scene();
        scene.ask(&get("/")).await;
        for (range, status, content_range, body) in [
            ("bytes=0-1", 206, "bytes 0-1/10", "01"),
            ("bytes=8-", 206, "bytes 8-9/10", "89"),
            ("bytes=-3", 206, "bytes 7-9/10", "789"),
            ("bytes=-30", 206, "bytes 0-9/10", "0123456789"),
            ("bytes=5-99999999999999999999999", 206, "bytes 5-9/10", "56789"),
            ("BYTES= 2-3 ", 206, "bytes 2-3/10", "23"),
            ("bytes=10-", 416, "bytes */10", ""),
            ("bytes=-0", 416, "bytes */10", ""),
            ("bytes=99999999999999999999999-", 416, "bytes */10", ""),
        ] {
            let got = scene.ask(&with(&[("range", range)])).await;
            assert_eq!((got.status, got.is_hit(), got.body.as_str()), (status, true, body), "{range}");
            assert_eq!(got.headers["content-range"], content_range, "{range}");
            assert_eq!(got.headers["content-length"], body.len().to_string(), "{range}");
            assert_eq!(got.headers["etag"], "\"a\"");
        }
        assert_eq!(scene.asked(), 1);
    });
}

#[test]
fn what_is_no_single_range_gets_the_whole_response() {
    run(async {
        let scene = scene();
        scene.ask(&get("/")).await;
        for range in [
            "bytes=0-1,3-4",
            "bytes=0-,0-,0-,0-",
            "bytes=3-2",
            "bytes=a-b",
            "bytes",
            "lines=1-2",
            "bytes=-",
            "bytes=1-2-3",
        ] {
            let got = scene.ask(&with(&[("range", range)])).await;
            assert_eq!((got.status, got.body.as_str()), (200, "0123456789"), "{range}");
            assert!(!got.headers.contains_key("content-range"));
        }
        let twice = with(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
        assert_eq!(scene.ask(&twice).await.status, 200);
        let head = TestRequest::new(Method::HEAD, "/", &[("range", "bytes=0-1")]);
        assert_eq!(scene.ask(&head).await.status, 200, "Range is defined for GET");
    });
}

/// RFC 9110 section 13.1.5.
#[test]
fn a_range_of_another_version_is_not_given() {
    run(async {
        let scene = scene();
        scene.ask(&get("/")).await;
        for (if_range, status) in [
            ("\"a\"", 206),
            ("\"b\"", 200),
            ("W/\"a\"", 200),
            ("Wed, 01 Jan 2020 00:00:00 GMT", 206),
            ("Thu, 02 Jan 2020 00:00:00 GMT", 200),
        ] {
            let got = scene.ask(&with(&[("range", "bytes=0-1"), ("if-range", if_range)])).await;
            assert_eq!(got.status, status, "{if_range}");
        }
    });
}

/// A range that is not stored is the origin's to give, and is never taken for the whole.
#[test]
fn parts_are_not_stored() {
    run(async {
        let script: Script = Box::new(|facts| {
            assert_eq!(facts.head.headers.get("range").map(|value| value == "bytes=0-1"), Some(true));
            let headers = [("cache-control", "max-age=60"), ("content-range", "bytes 0-1/10")];
            let mut response = testing::response(&headers, "01");
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            Ok(response)
        });
        let scene =
            Scene::new(&settings(), in_order(vec![script, always(&[("cache-control", "max-age=60")])]));
        let part = scene.ask(&with(&[("range", "bytes=0-1")])).await;
        assert_eq!((part.status, part.body.as_str()), (206, "01"));
        let whole = scene.ask(&get("/")).await;
        assert_eq!((whole.status, whole.body.as_str(), whole.is_hit()), (200, "answer 0", false));
    });
}
