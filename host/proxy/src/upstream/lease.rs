//! A connection in use by one request, and how a request comes by one.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use witgate_config::model::UpstreamProtocol;

use super::Upstream;
use super::connect::connect;
use super::connection::{Connection, Http1};
use super::endpoint::Endpoint;
use super::limit::{Asked, Grant, Permit, Place, Wish};
use super::pool;
use super::socket::Socket;
use super::upload::Upload;
use crate::fault::{Fault, FaultKind};

/// How long a connection whose exchange is over has to become ready for the next.
const SETTLE: Duration = Duration::from_secs(1);

/// Idle for so long, a connection is looked at again before it is used: no server that keeps connections closes them sooner.
const DOUBTFUL: Duration = Duration::from_millis(500);

/// A connection in use by one request. Dropped, an HTTP/1.1 connection is closed: only a finished exchange gives it back.
/// Of an HTTP/2 connection only the stream is given up.
pub(super) struct Lease {
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    /// There until it is given back.
    connection: Option<Connection>,
    /// Whether it served a request before: then the endpoint may have closed it in the meantime.
    pub(super) reused: bool,
}

impl Lease {
    /// Takes a connection out of this core's pool, opens one, or waits for one. `fresh` does not look into the pool.
    ///
    /// # Errors
    /// `ConnectTimeout`, `UpstreamUnreachable`, `UpstreamTls`, `UpstreamOverloaded`; all unsent.
    pub(super) async fn take(
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
    ) -> Result<Lease, Fault> {
        let lease = |connection, reused| Lease {
            upstream: upstream.clone(),
            endpoint: endpoint.clone(),
            connection: Some(connection),
            reused,
        };
        if !fresh && let Some(connection) = take_idle(upstream, endpoint).await {
            return Ok(lease(connection, true));
        }
        if upstream.config.protocol == UpstreamProtocol::Http2 {
            let (connection, reused) = open_shared(upstream, endpoint, fresh).await?;
            return Ok(lease(connection, reused));
        }
        let (connection, reused) = match ask(upstream, endpoint) {
            Asked::Permit(permit) => (open(upstream, endpoint, permit).await?, false),
            asked => wait(upstream, endpoint, asked).await?,
        };
        Ok(lease(connection, reused))
    }

    /// Sends a request. What was not begun comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        self.connection
            .as_mut()
            .expect("a lease has its connection until it is given back")
            .send(request)
            .await
    }

    /// The response was read to its end and the request was sent to its end.
    pub(super) fn give_back(mut self) {
        match self.connection.take() {
            Some(Connection::Http1(http1)) if !http1.sender.is_ready() => self.give_back_once_ready(http1),
            Some(connection) => pool::give_back(&self.upstream, &self.endpoint, connection),
            None => {}
        }
    }

    /// hyper may still have to see the end of what it wrote.
    fn give_back_once_ready(&self, mut http1: Http1) {
        if http1.sender.is_closed() {
            return;
        }
        let (upstream, endpoint) = (self.upstream.clone(), self.endpoint.clone());
        tokio::task::spawn_local(async move {
            if let Ok(Ok(())) = tokio::time::timeout(SETTLE, http1.sender.ready()).await {
                pool::give_back(&upstream, &endpoint, Connection::Http1(http1));
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection @ Connection::Http2(_)) = self.connection.take() {
            pool::give_back(&self.upstream, &self.endpoint, connection);
        }
    }
}

/// A connection of this core's pool. One that has been idle for long may have been closed by the endpoint while this core
/// was busy: then the core first looks at what its sockets have to say. A short turn is cheaper than a lost request.
async fn take_idle(upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>) -> Option<Connection> {
    while let Some((connection, idle)) = pool::take(upstream, endpoint) {
        if idle < DOUBTFUL {
            return Some(connection);
        }
        tokio::task::yield_now().await;
        if connection.is_alive() {
            return Some(connection);
        }
    }
    None
}

/// Under one lock for the endpoint and core, so that a crowd of requests shares one new connection.
async fn open_shared(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    fresh: bool,
) -> Result<(Connection, bool), Fault> {
    let lock = pool::opening(upstream, endpoint);
    let asked = {
        let timeout = tokio::time::timeout(upstream.config.connect_timeout, lock.lock()).await;
        let _guard = timeout
            .map_err(|_| Fault::new(FaultKind::ConnectTimeout).cause(endpoint.name.to_string()).unsent())?;
        if !fresh && let Some((connection, _)) = pool::take(upstream, endpoint) {
            return Ok((connection, true));
        }
        match ask(upstream, endpoint) {
            Asked::Permit(permit) => return Ok((open(upstream, endpoint, permit).await?, false)),
            asked => asked,
        }
    };
    wait(upstream, endpoint, asked).await
}

fn ask(upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>) -> Asked {
    upstream.limit.ask(&Wish {
        endpoint,
        core: &pool::core(),
        cap: upstream.config.max_connections,
        max_pending: upstream.config.max_pending,
        patience: upstream.config.pending_timeout,
    })
}

async fn open(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    permit: Permit,
) -> Result<Connection, Fault> {
    let transport = connect(endpoint, &upstream.config, upstream.tls.as_ref()).await?;
    let socket = Socket::new(transport, permit);
    let connection = Connection::open(socket, upstream.config.protocol).await?;
    if let Connection::Http2(stream) = &connection {
        pool::share(upstream, endpoint, &stream.connection);
    }
    Ok(connection)
}

/// Waits in the queue, within `pending_timeout`, for a connection of this core or for the right to open one.
async fn wait(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    asked: Asked,
) -> Result<(Connection, bool), Fault> {
    let overloaded = |cause: &'static str| {
        Fault::new(FaultKind::UpstreamOverloaded).cause(format!("{}: {cause}", upstream.name)).unsent()
    };
    let place = match asked {
        Asked::Permit(permit) => return Ok((open(upstream, endpoint, permit).await?, false)),
        Asked::Full => return Err(overloaded("too many requests wait for a connection")),
        Asked::Wait(place) => place,
    };
    let mut waiting = Waiting { upstream, endpoint, place };
    let patience = upstream.config.pending_timeout;
    match tokio::time::timeout(patience, &mut waiting.place.grant).await {
        Ok(Ok(Grant::Permit(permit))) => Ok((open(upstream, endpoint, permit).await?, false)),
        Ok(Ok(Grant::Reserved)) => pool::take_reserved(waiting.place.id)
            .map(|connection| (connection, true))
            .ok_or_else(|| overloaded("the connection put aside is gone")),
        Ok(Err(_)) | Err(_) => Err(overloaded("no connection became free in time")),
    }
}

/// A request in the queue. If it goes away with a connection put aside for it, that is given back.
struct Waiting<'a> {
    upstream: &'a Arc<Upstream>,
    endpoint: &'a Arc<Endpoint>,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(connection) = pool::take_reserved(self.place.id) {
            pool::give_back(self.upstream, self.endpoint, connection);
        }
    }
}
