//! The services behind the gateway: plain HTTP. All they know of the gateway is two headers that it sends.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Handles `GET /users/{id}`.
pub(crate) async fn users() -> Result<SocketAddr> {
    serve(|request| {
        let id = request.uri().path().trim_start_matches("/users/");
        json!({ "id": id, "name": "Ada", "asked_by": caller(request, "x-auth-subject") })
    })
    .await
}

/// Handles `GET /orders/...`, in two versions.
pub(crate) async fn orders(version: &'static str) -> Result<SocketAddr> {
    serve(move |request| {
        json!({ "version": version, "orders": [17, 23], "role": caller(request, "x-auth-role") })
    })
    .await
}

fn caller(request: &Request<Incoming>, header: &str) -> Option<String> {
    Some(request.headers().get(header)?.to_str().ok()?.to_owned())
}

/// Serves JSON on a free loopback port until the program ends.
async fn serve<F>(answer: F) -> Result<SocketAddr>
where
    F: Fn(&Request<Incoming>) -> Value + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let body = Full::<Bytes>::from(format!("{}\n", answer(&request)));
                let response = Response::builder().header("content-type", "application/json").body(body);
                async move { Ok::<_, Infallible>(response.expect("a fixed, valid head")) }
            });
            tokio::spawn(async move {
                if let Err(error) = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                {
                    eprintln!("a service lost a connection: {error}");
                }
            });
        }
    });
    Ok(address)
}
