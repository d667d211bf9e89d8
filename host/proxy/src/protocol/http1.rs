//! HTTP/1.1 (RFC 9112) on one connection.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::listener::door::{Generation, Phase};
use crate::listener::plane::Plane;
use crate::protocol::connection::Connection;
use crate::protocol::service;

/// Serves requests until the client, an error or a drain ends the connection.
pub(crate) async fn serve<T>(plane: &Plane, connection: Rc<Connection>, io: T, generation: &Arc<Generation>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut phase = generation.phase();
    let limits = connection.limits;
    let service = service_fn(|request| {
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(service::answer(connection, request).await) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .half_close(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut http = pin!(http);
    let mut reached = *phase.borrow_and_update();
    loop {
        if reached >= Phase::Draining {
            connection.closing.set(true);
            http.as_mut().graceful_shutdown();
        }
        tokio::select! {
            // How a connection broke is of no interest: its requests have said so in their own records.
            _ = http.as_mut() => return,
            next = phase.wait_for(|phase| *phase > reached) => match next {
                Ok(next) if *next == Phase::Cut => {
                    plane.cut.fetch_add(1, Ordering::AcqRel);
                    return;
                }
                Ok(next) => reached = *next,
                Err(_) => return,
            },
        }
    }
}
