//! Opens a connection to an endpoint: name resolution, TCP, TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use witgate_config::model;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::proxy_protocol::{self, Client, Version};
use witgate_wire::tcp::Tcp;

use super::socket::Transport;
use super::tls::Tls;
use crate::endpoint::Endpoint;
use crate::response::failure::chain;

/// How long the gateway waits for one address before it also tries the next (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects within the upstream's `connect_timeout`, including TLS. Whatever the error is, nothing of
/// a request was sent. `client`: for whom, if the endpoint is told so by the PROXY protocol.
///
/// # Errors
/// `ConnectTimeout`, `UpstreamUnreachable`, `UpstreamTls`, `Overloaded`; all unsent.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: &model::Upstream,
    tls: Option<&Tls>,
    client: Option<&Client>,
) -> Result<Transport, Fault> {
    let destination = Destination {
        endpoint,
        port: endpoint.port,
        tls: tls.map(|tls| &tls.config),
        server_name: config.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
        http2: config.protocol == model::UpstreamProtocol::Http2,
        proxy_header: proxy_header(config, client),
    };
    let connected = tokio::time::timeout(config.connect_timeout, reach(&destination)).await;
    connected.unwrap_or_else(|_| Err(too_late(endpoint, config.connect_timeout))).map_err(Fault::unsent)
}

/// The fault of a connection that was not there within `connect_timeout`.
pub(crate) fn too_late(endpoint: &Endpoint, timeout: Duration) -> Fault {
    Fault::new(FaultKind::ConnectTimeout)
        .cause(format!("{}: no connection within {timeout:?} (`connect_timeout`)", endpoint.name))
}

/// Where a connection leads, and how it is opened.
pub(crate) struct Destination<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) port: u16,
    /// `None` for cleartext.
    pub(crate) tls: Option<&'a Arc<ClientConfig>>,
    /// The name in the certificate; `None` for the endpoint's host.
    pub(crate) server_name: Option<&'a str>,
    /// Whether TLS must negotiate HTTP/2.
    pub(crate) http2: bool,
    /// The PROXY header that precedes everything else.
    pub(crate) proxy_header: Option<Vec<u8>>,
}

/// The PROXY header of a connection, if the upstream wants one: for a client, or else for the gateway itself.
pub(crate) fn proxy_header(config: &model::Upstream, client: Option<&Client>) -> Option<Vec<u8>> {
    let version = match config.proxy_protocol? {
        model::ProxyVersion::V1 => Version::V1,
        model::ProxyVersion::V2 => Version::V2,
    };
    Some(match client {
        Some(client) => proxy_protocol::write(version, client),
        None => proxy_protocol::write(version, &Client::default()),
    })
}

/// Connects, including TLS. There is no timeout.
///
/// # Errors
/// `UpstreamUnreachable`, `UpstreamTls`, `Overloaded`.
pub(crate) async fn reach(destination: &Destination<'_>) -> Result<Transport, Fault> {
    let Destination { endpoint, port, tls, .. } = destination;
    let mut stream = connect_tcp(endpoint, *port).await.map_err(|error| unreachable(endpoint, &error))?;
    if let Some(header) = &destination.proxy_header {
        stream.write_all(header).await.map_err(|error| unreachable(endpoint, &error))?;
    }
    match tls {
        None => Ok(Transport::Tcp(stream)),
        Some(tls) => shake_hands(stream, destination, tls).await,
    }
}

async fn connect_tcp(endpoint: &Endpoint, port: u16) -> io::Result<Tcp> {
    let addresses = endpoint.addresses.get(port).await?;
    let stream = match addresses.as_slice() {
        [address] => TcpStream::connect(address).await?,
        addresses => connect_any(addresses).await?,
    };
    stream.set_nodelay(true)?;
    Ok(Tcp::new(stream))
}

/// Connects to the first address that accepts. Each address has a head start over the next, which is tried at once
/// when one fails.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        match rest.next() {
            Some(address) => attempts.push(TcpStream::connect(*address)),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(connected) = attempts.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(HEAD_START), if !rest.as_slice().is_empty() => {}
        }
    }
}

async fn shake_hands(
    stream: Tcp,
    destination: &Destination<'_>,
    tls: &Arc<ClientConfig>,
) -> Result<Transport, Fault> {
    let endpoint = destination.endpoint;
    let fault =
        |cause: String| Fault::new(FaultKind::UpstreamTls).cause(format!("{}: {cause}", endpoint.name));
    let name = destination.server_name.unwrap_or(&endpoint.host);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| fault(error.to_string()))?;
    let connector = TlsConnector::from(tls.clone());
    let stream = connector.connect(name, stream).await.map_err(|error| fault(chain(&error)))?;
    if destination.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(fault("the endpoint did not agree on HTTP/2".into()));
    }
    Ok(Transport::Tls(Box::new(stream)))
}

fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Fault {
    let kind = if is_ours(error) { FaultKind::Overloaded } else { FaultKind::UpstreamUnreachable };
    Fault::new(kind).cause(format!("{}: {error}", endpoint.name))
}

/// Whether the gateway has no file descriptor or memory for another socket. That shows nothing about the endpoint,
/// and another endpoint would not help.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::failure::blames_endpoint;

    #[test]
    fn a_gateway_without_descriptors_blames_no_endpoint() {
        let settings = crate::testing::upstream(&["127.0.0.1:1".parse().unwrap()]);
        let endpoint =
            Endpoint::new(&settings.endpoints[0].host, settings.endpoints[0].port, false, None).unwrap();
        let blames = |code| blames_endpoint(&unreachable(&endpoint, &io::Error::from_raw_os_error(code)));
        assert!(![libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].into_iter().any(blames));
        assert!([libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH].into_iter().all(blames));
    }
}
