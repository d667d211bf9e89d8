//! A connection in use by one request, and how a request gets one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use witgate_config::model::UpstreamProtocol;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::proxy_protocol::Client;
use witgate_wire::stream::Stream;

use super::connect::{connect, too_late};
use super::limit::{Acquire, Acquired, Grant, Permit, Waiter};
use super::pool;
use super::socket::Socket;
use crate::Upstream;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::pick::attempt::Attempt;
use crate::send::http1::Http1;

/// A connection that was idle for this long is checked again before it is used. Servers with keep-alive do not
/// close connections sooner.
const DOUBTFUL: Duration = Duration::from_millis(500);

/// A connection in use by one request. When it is dropped, an HTTP/1.1 connection is closed: only a finished
/// exchange returns it to the pool. Of an HTTP/2 connection only the stream is given up.
pub(crate) struct Lease {
    /// Where an HTTP/2 stream is given back, whatever becomes of its request.
    home: Option<(Arc<Upstream>, Arc<Endpoint>)>,
    /// `Some` until the connection is given back.
    connection: Option<Connection>,
    /// Whether it has served a request before. Then the endpoint may have closed it in the meantime.
    pub(crate) reused: bool,
    /// Whether the request had to wait for it.
    pub(crate) waited: bool,
}

impl Lease {
    /// Takes a connection from this core's pool, opens one, or waits for one. With `fresh` the pool is not used. `client`: for
    /// whom, if the endpoint is told so by the PROXY protocol.
    ///
    /// # Errors
    /// `ConnectTimeout`, `UpstreamUnreachable`, `UpstreamTls`, `UpstreamOverloaded`; all unsent.
    pub(crate) async fn take(
        attempt: &Attempt,
        fresh: bool,
        client: Option<&Client>,
    ) -> Result<Lease, Fault> {
        let (upstream, endpoint) = (&attempt.upstream, attempt.endpoint());
        let http2 = upstream.config.protocol == UpstreamProtocol::Http2;
        let lease = |connection, reused, waited| Lease {
            home: http2.then(|| (upstream.clone(), endpoint.clone())),
            connection: Some(connection),
            reused,
            waited,
        };
        if !fresh && let Some((connection, waited)) = take_idle(attempt).await {
            return Ok(lease(connection, true, waited));
        }
        // Boxed, since it is rare and large. Otherwise every request would have to reserve memory for it.
        let (connection, reused) = Box::pin(obtain(upstream, endpoint, fresh, client)).await?;
        Ok(lease(connection, reused, true))
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease has its connection until it is given back")
    }

    /// The connection, if it speaks HTTP/1.1.
    pub(crate) fn http1(&self) -> Option<&Http1> {
        match &self.connection {
            Some(Connection::Http1(connection)) => Some(connection),
            _ => None,
        }
    }

    /// Marks that the connection has ended during its request. Returns true if another request that shared it has
    /// marked this before.
    pub(crate) fn tell_end(&self) -> bool {
        matches!(&self.connection, Some(Connection::Http2(stream)) if stream.connection.end_told.replace(true))
    }

    /// Returns the connection to the pool after the whole response was read. An HTTP/1.1 connection is closed
    /// instead if the response ended before the request did (the endpoint will not read the rest), if the response
    /// says so, or if more bytes follow it.
    pub(crate) fn give_back(mut self, attempt: &Attempt, now: Instant) {
        if let Some(Connection::Http1(connection)) = &mut self.connection
            && connection.is_reusable()
            // Its PROXY header names one client.
            && attempt.upstream.config.proxy_protocol.is_none()
            && let Some(connection) = self.connection.take()
        {
            pool::give_back(&attempt.upstream, attempt.endpoint(), connection, now);
        }
    }

    /// The connection after a switch of protocols: its socket, and the bytes that were already read. `None` for
    /// HTTP/2.
    pub(crate) fn into_switched(mut self) -> Option<Stream> {
        match self.connection.take() {
            Some(Connection::Http1(connection)) => connection.into_switched(),
            _ => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((upstream, endpoint)) = &self.home
            && let Some(connection) = self.connection.take()
        {
            pool::give_back(upstream, endpoint, connection, Instant::now());
        }
    }
}

/// Takes a connection from this core's pool. The endpoint may have closed one that was idle for long while this
/// core was busy. Therefore the core first polls its sockets, because a short pause costs less than a failed
/// request. Returns with the connection whether there was such a pause.
async fn take_idle(attempt: &Attempt) -> Option<(Connection, bool)> {
    let mut waited = false;
    while let Some((mut connection, idle)) =
        pool::take(&attempt.upstream, attempt.endpoint(), attempt.begun())
    {
        if idle < DOUBTFUL {
            return Some((connection, waited));
        }
        waited = true;
        tokio::task::yield_now().await;
        if connection.is_alive() {
            return Some((connection, waited));
        }
    }
    None
}

/// Opens a connection, or waits for one.
async fn obtain(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    fresh: bool,
    client: Option<&Client>,
) -> Result<(Connection, bool), Fault> {
    if upstream.config.protocol == UpstreamProtocol::Http2 {
        return open_shared(upstream, endpoint, fresh).await;
    }
    match ask(upstream, endpoint) {
        Acquired::Permit(permit) => Ok((open(upstream, endpoint, permit, client).await?, false)),
        asked => wait(upstream, endpoint, asked, client).await,
    }
}

/// Opens an HTTP/2 connection under one lock for the endpoint and core, so that many requests share one new
/// connection.
async fn open_shared(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    fresh: bool,
) -> Result<(Connection, bool), Fault> {
    let lock = pool::opening(upstream, endpoint);
    let asked = {
        let timeout = tokio::time::timeout(upstream.config.connect_timeout, lock.lock()).await;
        let _guard = timeout.map_err(|_| too_late(endpoint, upstream.config.connect_timeout).unsent())?;
        if !fresh && let Some((connection, _)) = pool::take(upstream, endpoint, Instant::now()) {
            return Ok((connection, true));
        }
        match ask(upstream, endpoint) {
            Acquired::Permit(permit) => return Ok((open(upstream, endpoint, permit, None).await?, false)),
            asked => asked,
        }
    };
    wait(upstream, endpoint, asked, None).await
}

fn ask(upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>) -> Acquired {
    upstream.carried.limit.ask(&Acquire {
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
    client: Option<&Client>,
) -> Result<Connection, Fault> {
    let transport = connect(endpoint, &upstream.config, upstream.tls.as_ref(), client).await?;
    let socket = Socket::new(transport, permit);
    let connection = Connection::open(socket, upstream.config.protocol).await?;
    if let Connection::Http2(stream) = &connection {
        pool::share(upstream, endpoint, &stream.connection);
    }
    Ok(connection)
}

/// Waits in the queue, for at most `pending_timeout`, for a connection of this core or for a permit to open one.
async fn wait(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    asked: Acquired,
    client: Option<&Client>,
) -> Result<(Connection, bool), Fault> {
    let overloaded = |cause: &'static str| overloaded(upstream, cause);
    let place = match asked {
        Acquired::Permit(permit) => return Ok((open(upstream, endpoint, permit, client).await?, false)),
        Acquired::Full => return Err(overloaded("too many requests wait for a connection")),
        Acquired::Queued(place) => place,
    };
    let mut waiting = QueuedRequest { upstream, endpoint, place };
    let patience = upstream.config.pending_timeout;
    match tokio::time::timeout(patience, &mut waiting.place.grant).await {
        Ok(Ok(Grant::Permit(permit))) => Ok((open(upstream, endpoint, permit, client).await?, false)),
        Ok(Ok(Grant::Reserved)) => pool::take_reserved(waiting.place.id)
            .map(|connection| (connection, true))
            .ok_or_else(|| overloaded("the connection put aside is gone")),
        Ok(Err(_)) | Err(_) => Err(overloaded("no connection became free in time")),
    }
}

fn overloaded(upstream: &Upstream, cause: &'static str) -> Fault {
    Fault::new(FaultKind::UpstreamOverloaded).cause(format!("{}: {cause}", upstream.name)).unsent()
}

/// A permit to open a connection that is never shared, as those of clients that are forwarded. Waits in the queue, for at
/// most `pending_timeout`, while the upstream is at its limit.
///
/// # Errors
/// `UpstreamOverloaded`, unsent.
pub(crate) async fn permit(upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>) -> Result<Permit, Fault> {
    let mut place = match ask(upstream, endpoint) {
        Acquired::Permit(permit) => return Ok(permit),
        Acquired::Full => return Err(overloaded(upstream, "too many connections wait")),
        Acquired::Queued(place) => place,
    };
    match tokio::time::timeout(upstream.config.pending_timeout, &mut place.grant).await {
        Ok(Ok(Grant::Permit(permit))) => Ok(permit),
        // Nothing is reserved for a waiter of such an upstream, because it has no idle connections.
        Ok(Ok(Grant::Reserved) | Err(_)) | Err(_) => {
            Err(overloaded(upstream, "no connection became free in time"))
        }
    }
}

/// A request in the queue. If it is dropped while a connection is reserved for it, the connection is given back.
struct QueuedRequest<'a> {
    upstream: &'a Arc<Upstream>,
    endpoint: &'a Arc<Endpoint>,
    place: Waiter,
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        if let Some(connection) = pool::take_reserved(self.place.id) {
            pool::give_back(self.upstream, self.endpoint, connection, Instant::now());
        }
    }
}
