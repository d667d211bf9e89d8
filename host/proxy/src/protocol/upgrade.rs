//! Tunnels: what remains of an exchange once both sides have switched protocols.
//!
//! Nothing of the client's goes upstream before the upstream has answered 101: until then the client's bytes stay
//! unread in its connection, because hyper hands the connection over only once the 101 is sent.

use std::time::Duration;

use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::pipeline::exchange::Exchange;

/// If the response is a 101 that the client asked for, joins both sides once it is sent; otherwise hands it on.
pub fn join(
    exchange: &mut Exchange,
    client: Option<OnUpgrade>,
    mut response: Response<Body>,
) -> Response<Body> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let upstream = response.extensions_mut().remove::<OnUpgrade>();
    let (Some(client), Some(upstream)) = (client, upstream) else {
        return exchange.fault(Fault::new(FaultKind::UpstreamProtocol).cause("101 that nobody asked for"));
    };
    let idle = idle_timeout(exchange);
    tokio::task::spawn_local(async move {
        let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
        let _ = idle;
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
    });
    response
}

/// How long a tunnel may be silent: as its upstream says.
fn idle_timeout(exchange: &Exchange) -> Option<Duration> {
    let name = exchange.upstream.as_deref()?;
    exchange.snapshot.config.upstreams.get(name)?.idle_timeout
}
