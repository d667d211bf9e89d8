//! Outbound exchanges of plugins.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use witgate_exchange::contracts::Fetch as _;
use witgate_exchange::fault::FaultKind;

use super::origin::{Origin, Visitor};
use super::{HELLO, settings, snapshot};
use crate::testing::run;

fn request(uri: &str) -> Request<Bytes> {
    Request::post(uri).header("x-key", "1").body(Bytes::from_static(b"ask")).unwrap()
}

#[test]
fn a_plugin_reaches_the_endpoint_of_a_named_upstream_and_no_other_host() {
    run(async {
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        let request = request("https://elsewhere.example/path?query");
        let response = snapshot.fetch("origin", request, None, None, 5).await.unwrap();
        assert_eq!(response.body(), "hello");
        let seen = &origin.requests()[0];
        assert!(seen.starts_with("POST /path?query HTTP/1.1\r\n") && seen.ends_with("\r\n\r\nask"), "{seen}");
        assert!(seen.contains("\r\nx-key: 1\r\n"), "{seen}");
        assert!(seen.contains(&format!("\r\nhost: {}\r\n", origin.address)), "{seen}");
        assert!(!seen.contains("elsewhere"), "{seen}");
    });
}

#[test]
fn limits_of_size_and_time_hold_and_unknown_upstreams_are_refused() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            while let Some(request) = visitor.request().await {
                visitor.send(if request.contains("/slow") { "HTTP/1.1 200 OK\r\n" } else { HELLO }).await;
            }
        });
        let snapshot = snapshot(settings(&[origin.address]));
        let fault = snapshot.fetch("origin", request("/"), None, None, 4).await.unwrap_err();
        assert_eq!(
            (fault.kind, fault.detail.as_deref()),
            (FaultKind::UpstreamProtocol, Some("response too large"))
        );
        let soon = Some(Duration::from_millis(50));
        let fault = snapshot.fetch("origin", request("/slow"), None, soon, 4).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::RequestTimeout);
        let fault = snapshot.fetch("nowhere", request("/"), None, None, 4).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::NoEndpoint);
    });
}
