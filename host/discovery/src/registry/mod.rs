//! What sources share that ask the servers of a registry: connections, requests, and one server after the other.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | connection | this one | TCP and TLS to one of the servers |
//! | HTTP/1 | [`http`] | requests with bounded answers, and answers line by line |
//! | gRPC | [`grpc`] | calls and streams over HTTP/2 |
//! | gathering | [`gather`] | changes that follow each other closely are reported together |
//!
//! What a server sends is a stranger's: sizes and times are bounded here, its form is checked by the source.

pub(crate) mod gather;
#[cfg(feature = "http2")]
pub(crate) mod grpc;
#[cfg(any(feature = "consul", feature = "kubernetes"))]
pub(crate) mod http;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

use std::pin::Pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use witgate_config::model::RegistryServers;

use crate::text::one_line;
pub(crate) use tls::check;

/// The time for connecting to a server, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// The time for an answer to a request that does not wait for a change.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// A server that ends a connection sooner than this counts as one that fails, even if it gave a set.
const SHORT: Duration = Duration::from_secs(5);
/// A connection on which nothing arrives is probed after this time, so that a server that has vanished is noticed.
const PROBE: Duration = Duration::from_secs(15);

/// A connection to a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}
/// A connection to a server, with or without TLS.
pub(crate) type BoxedStream = Pin<Box<dyn Stream>>;

/// How the use of one server ended.
pub(crate) struct Ended {
    /// Why, as a sentence without its end.
    pub(crate) why: String,
    /// Whether it supplied a set.
    pub(crate) useful: bool,
}

/// Uses one server after the other, beginning at `next`, until each has failed since one of them was useful. Returns
/// why they failed.
pub(crate) async fn one_after_the_other(
    servers: &[(String, u16)],
    next: &mut usize,
    mut session: impl AsyncFnMut(&str, u16) -> Ended,
) -> String {
    let mut failures = Vec::new();
    while failures.len() < servers.len().max(1) {
        let Some((host, port)) = servers.get(*next % servers.len().max(1)) else {
            return "the source has no server".to_owned();
        };
        let begun = Instant::now();
        let Ended { why, useful } = session(host, *port).await;
        *next = (*next + 1) % servers.len();
        if useful && begun.elapsed() > SHORT {
            failures.clear();
        }
        failures.push(format!("{host}:{port}: {why}"));
    }
    failures.join("; ")
}

/// Connects to a server. `protocol`: the name of the protocol in TLS (ALPN).
pub(crate) async fn connect(
    servers: &RegistryServers,
    host: &str,
    port: u16,
    protocol: &[u8],
) -> Result<BoxedStream, String> {
    let connecting = async {
        let failed = |error: std::io::Error| format!("cannot connect: {}", one_line(&error.to_string()));
        let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
        // Only the latency and the detection of dead servers depend on these.
        let _ = stream.set_nodelay(true);
        let probes = TcpKeepalive::new().with_time(PROBE).with_interval(PROBE / 3);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
        match &servers.tls {
            None => Ok(Box::pin(stream) as BoxedStream),
            Some(settings) => tls::connect(settings, host, protocol, stream).await,
        }
    };
    match timeout(CONNECT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(format!("no connection within {} seconds", CONNECT.as_secs())),
    }
}

/// A task that ends with this.
pub(crate) struct Driver(tokio::task::JoinHandle<()>);

impl Driver {
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Driver {
        Driver(tokio::spawn(task))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
