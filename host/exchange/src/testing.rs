//! Heads, facts and bodies for tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, LocalOptions};
use witgate_config::model;

use crate::body::{Body, BodyError};
use crate::facts::Facts;
use crate::head::{Client, RequestHead, Scheme};
use crate::trace;

/// The client of [`head`].
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// The limits of a listener.
pub fn limits() -> model::Limits {
    model::Limits {
        connections: 0,
        headers: 100,
        header_bytes: 64 * 1024,
        url_bytes: 8 * 1024,
        body_bytes: 0,
        streams: 100,
        header_timeout: Duration::from_secs(10),
        keep_alive: Duration::from_secs(60),
        body_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(10),
        max_connection_age: None,
    }
}

/// A request head from [`CLIENT`] to `a.example`.
pub fn head(method: Method, target: &str, headers: &[(&str, &str)]) -> RequestHead {
    let target = PathAndQuery::try_from(target).expect("a test's target");
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a test's header name");
            (name, HeaderValue::from_str(value).expect("a test's header value"))
        })
        .collect();
    RequestHead {
        method,
        received_target: None,
        target,
        upstream_target: None,
        upstream_method: None,
        authority: "a.example".into(),
        scheme: Scheme::Http,
        trailers: None,
        client: Client {
            address: CLIENT,
            peer: SocketAddr::new(CLIENT, 40000),
            certificate: None,
            local: None,
            tls: None,
        },
        route: None,
        parameters: Vec::new(),
        notes: None,
        settling: None,
        identity: None,
        request_id: trace::request_id(&headers, true),
        trace: None,
        headers,
    }
}

/// The facts of a request over HTTP/1.1 that no stage has seen.
pub fn facts(head: RequestHead) -> Facts {
    Facts::new(Arc::new(head), Version::HTTP_11, Instant::now())
}

/// Every byte of a body.
pub async fn bytes(body: Body) -> Result<Bytes, BodyError> {
    body.collect().await.map(http_body_util::Collected::to_bytes)
}

/// A body of unknown size that is streamed in these chunks.
pub fn chunks(chunks: Vec<Result<&'static [u8], &'static str>>) -> Body {
    let frames = chunks.into_iter().map(|chunk| match chunk {
        Ok(bytes) => Ok(http_body::Frame::data(Bytes::from_static(bytes))),
        Err(error) => Err(BodyError::from(error)),
    });
    Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
}

/// A 200 response with a body.
pub fn response(headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a test's header name");
        response.headers_mut().append(name, HeaderValue::from_str(value).expect("a test's header value"));
    }
    response
}

/// Runs a future to its end on a runtime like that of a core.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(future)
}
