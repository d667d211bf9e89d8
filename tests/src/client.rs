//! Clients: an HTTP client, and raw bytes for requests that no HTTP client would send.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::DEADLINE;

/// A whole response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// A header's value as text; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }
}

/// A connection that sends requests one after the other.
pub enum Client {
    /// HTTP/1.1.
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    /// HTTP/2 with prior knowledge.
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// Connects with HTTP/1.1.
    pub async fn http1(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway accepts");
        Self::http1_over(stream).await
    }

    /// HTTP/1.1 over a Unix socket.
    pub async fn unix(path: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self::http1_over(UnixStream::connect(path).await?).await)
    }

    /// HTTP/1.1 over any stream, e.g. TLS.
    pub async fn http1_over<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("a handshake sends nothing");
        tokio::spawn(connection.with_upgrades());
        Client::Http1(sender)
    }

    /// Connects with HTTP/2, prior knowledge.
    pub async fn http2(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway accepts");
        Self::http2_over(stream).await
    }

    /// HTTP/2 over any stream, e.g. TLS.
    pub async fn http2_over<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("the gateway speaks HTTP/2");
        tokio::spawn(connection);
        Client::Http2(sender)
    }

    /// Sends a request and reads the whole response. `Host` is added if absent.
    ///
    /// # Errors
    /// The error of the connection, or a response that takes longer than [`DEADLINE`].
    pub async fn try_send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let exchange = async {
            let response = match self {
                Client::Http1(sender) => {
                    if !request.headers().contains_key("host") {
                        request.headers_mut().insert("host", http::HeaderValue::from_static("gateway.test"));
                    }
                    sender.ready().await.map_err(|error| error.to_string())?;
                    sender.send_request(request).await
                }
                Client::Http2(sender) => {
                    if request.uri().authority().is_none() {
                        let uri = format!("http://gateway.test{}", request.uri());
                        *request.uri_mut() = uri.parse().expect("a valid target");
                    }
                    sender.send_request(request).await
                }
            }
            .map_err(|error| format!("{error:?}"))?;
            let (parts, body) = response.into_parts();
            let collected = body.collect().await.map_err(|error| format!("{error:?}"))?;
            let trailers = collected.trailers().cloned();
            Ok(Reply { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers })
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .unwrap_or_else(|_| Err(String::from("no response in time")))
    }

    /// As [`Client::try_send`]; panics if there is no response.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Reply {
        self.try_send(request).await.expect("a response")
    }

    /// Sends a GET request with headers.
    pub async fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(request("GET", target, headers, Bytes::new())).await
    }

    /// Sends a POST request with headers and a body.
    pub async fn post(&mut self, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        self.send(request("POST", target, headers, body.into())).await
    }
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body)).expect("a valid request")
}

/// Sends bytes unchanged and returns the response bytes until the other side closes, or sends nothing for
/// `silence`.
pub async fn raw(address: SocketAddr, bytes: &[u8], silence: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the gateway accepts");
    // The gateway may send a response and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(silence, stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..count]);
    }
    answer
}
