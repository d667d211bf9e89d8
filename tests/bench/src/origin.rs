//! The origins behind all proxies: nginx for HTTP/1.1, a small server of our own for gRPC.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::bench::wait_for;
use crate::peers::nginx;
use crate::process::Process;

/// The path of the large response.
pub(crate) const LARGE: &str = "/large";

/// nginx, with responses of 1 KiB for every path and of 100 KiB for [`LARGE`].
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Origin {
    /// Starts nginx on all addresses of the machine, so that the addresses 127.x.y.z serve as thousands of
    /// endpoints.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Origin> {
        std::fs::create_dir(folder)?;
        std::fs::write(folder.join("large"), "x".repeat(100 * 1024))?;
        let port = free_port()?;
        let http = format!(
            "  sendfile on;\n  keepalive_timeout 300s;\n  map '' $body {{ default '{}'; }}\n\
             \x20 server {{\n    listen 0.0.0.0:{port} backlog=8192;\n    location {LARGE} {{ root {}; }}\n\
             \x20   location / {{ return 200 $body; }}\n  }}\n",
            "x".repeat(1024),
            folder.display()
        );
        let process = Process::start(&mut nginx::start(program, folder, (1, 16_384), "", &http)?)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for(address, Duration::from_secs(20))?;
        Ok(Origin { address, _process: process })
    }

    /// `count` endpoints, all of them served by this origin.
    pub(crate) fn endpoints(&self, count: usize) -> Vec<SocketAddr> {
        let first = u32::from(Ipv4Addr::LOCALHOST);
        let addresses = (first..).take(count).map(Ipv4Addr::from);
        addresses.map(|address| SocketAddr::from((address, self.address.port()))).collect()
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One uncompressed gRPC message of 128 bytes.
pub(crate) fn message() -> Vec<u8> {
    [&[0, 0, 0, 0, 128][..], &[b'x'; 128]].concat()
}

/// Starts the gRPC origin on a thread of this process. It reads a call and sends one message and trailers.
pub(crate) fn grpc() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The origin serves until the bench ends.
    std::thread::Builder::new().name("grpc-origin".into()).spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    })?;
    Ok(address)
}

async fn serve(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.max_concurrent_streams(1000);
    // Clients may close their connections at any time.
    let _ = server.serve_connection(TokioIo::new(stream), hyper::service::service_fn(say)).await;
}

async fn say(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    request.into_body().collect().await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(message()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}
