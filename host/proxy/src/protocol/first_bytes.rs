//! What is read of a connection before its own protocol: the PROXY header, and the ClientHello where it decides whether TLS
//! ends here. In this order, because a proxy writes its header before the TLS of the client.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use witgate_config::model::{ListenerProtocol, OtherSources, ProxyProtocol, contains};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::proxy_protocol::{self, Header, Malformed};
use witgate_wire::tcp::Tcp;

use super::connection::Incoming;
use super::tcp;

/// Bytes read at a time; most headers fit.
const READ_BYTES: usize = 256;

impl Incoming {
    /// Whether the connection begins with HTTP or with TLS that ends here.
    pub(crate) fn begins_with_its_protocol(&self) -> bool {
        let config = &self.generation.config;
        config.protocol == ListenerProtocol::Http
            && config.proxy_protocol.is_none()
            && !self.may_pass_through()
    }

    /// Whether a route of this listener for HTTP takes connections by their ClientHello.
    fn may_pass_through(&self) -> bool {
        self.generation.tls.is_some() && self.core.gateway.snapshot().tcp.contains_key(&*self.generation.name)
    }
}

/// Reads what comes before HTTP. Returns the connection if it is one of HTTP; otherwise it has been served or refused.
pub(crate) async fn read(mut incoming: Incoming, mut stream: Tcp) -> Option<(Incoming, Tcp)> {
    if let Some(settings) = &incoming.generation.clone().config.proxy_protocol
        && let Err(fault) = Box::pin(read_proxy_header(&mut incoming, &mut stream, settings)).await
    {
        incoming.record().fault(fault);
        return None;
    }
    if incoming.generation.config.protocol == ListenerProtocol::Tcp {
        tcp::serve(&incoming, stream).await;
        return None;
    }
    if !incoming.may_pass_through() {
        return Some((incoming, stream));
    }
    let hello = match Box::pin(tcp::hello::read(&incoming, &mut stream)).await {
        Ok(hello) => hello,
        Err(fault) => {
            incoming.record().fault(fault);
            return None;
        }
    };
    let snapshot = incoming.core.gateway.snapshot();
    let route = snapshot.tcp.get(&*incoming.generation.name).and_then(|router| router.find(&hello)).cloned();
    drop(snapshot);
    match route {
        Some(route) => {
            tcp::serve_passed(&incoming, stream, hello, route).await;
            None
        }
        None => Some((incoming, stream)),
    }
}

/// Reads the header of a trusted source, and notes what it tells of the client.
async fn read_proxy_header(
    incoming: &mut Incoming,
    stream: &mut Tcp,
    settings: &ProxyProtocol,
) -> Result<(), Fault> {
    let bad = |cause: String| Fault::new(FaultKind::BadProxyHeader).cause(cause);
    if !contains(&settings.trusted, incoming.peer.ip().to_canonical()) {
        return match settings.others {
            OtherSources::Direct => Ok(()),
            OtherSources::Refuse => {
                Err(bad(format!("{} is no trusted source of PROXY headers", incoming.peer.ip())))
            }
        };
    }
    let limit = incoming.generation.config.limits.handshake_timeout;
    let read = tokio::select! {
        biased;
        read = timeout(limit, complete(stream)) => read,
        () = incoming.until_silence_is_over() => return Err(Fault::new(FaultKind::Draining)),
    };
    let header = match read {
        Ok(Ok(header)) => header.map_err(|Malformed(reason)| bad(reason.to_owned()))?,
        Ok(Err(_)) => {
            return Err(
                Fault::new(FaultKind::ClientGone).cause("the peer left before its PROXY header was complete")
            );
        }
        Err(_) => {
            return Err(bad(format!(
                "no complete PROXY header within {limit:?} (`limits.handshake_timeout`)"
            )));
        }
    };
    if let Some(addresses) = header.addresses {
        (incoming.client, incoming.local) = (addresses.source, Some(addresses.destination));
    }
    incoming.tlvs = header.tlvs;
    Ok(())
}

/// Reads until the header is complete, and puts back what follows it.
async fn complete(stream: &mut Tcp) -> io::Result<Result<Header, Malformed>> {
    let mut arrived = BytesMut::new();
    loop {
        arrived.reserve(READ_BYTES);
        if stream.read_buf(&mut arrived).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match proxy_protocol::read(&arrived) {
            Ok(Some((header, length))) => {
                arrived.advance(length);
                stream.put_back(arrived);
                return Ok(Ok(header));
            }
            Ok(None) => {}
            Err(malformed) => return Ok(Err(malformed)),
        }
    }
}
