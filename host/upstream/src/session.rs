//! Sessions: connections of clients that are forwarded as they are, each over one connection to an endpoint.
//!
//! An endpoint is picked as for a request, behind the same admission, breakers and limits. Endpoints that do not accept the
//! connection are followed by others, up to `retry.attempts`, because no byte of the client has been sent yet. Afterwards
//! there is no other attempt.
//!
//! An endpoint has answered when its first byte has come or the session ends in order. If it resets the connection before its
//! first byte, it has failed. What happens later is the business of the two peers, and shows nothing about the endpoint. The
//! latency that balancing policies see is the time to connect.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::proxy_protocol::Client;
use witgate_wire::socket::prepare;

use crate::Upstream;
use crate::admission::Admission;
use crate::balancer::Caller;
use crate::connection::connect::connect;
use crate::connection::lease::permit;
use crate::connection::socket::Socket;
use crate::observe::{Extent, Failing};
use crate::pick::attempt::Attempt;
use crate::response::failure::blames_endpoint;

/// What has been done to open a session, for the log.
#[derive(Debug, Default)]
pub struct Connecting {
    /// The endpoint that was asked last.
    pub endpoint: Option<Arc<str>>,
    /// How many endpoints were asked.
    pub attempts: u32,
    /// How long the last one took to accept the connection.
    pub time: Option<Duration>,
}

/// A connection to an endpoint for one client. While it exists, the endpoint counts it as in flight.
pub struct Session {
    socket: Socket,
    attempt: Attempt,
    admission: Option<Admission>,
    connected: Duration,
    /// Whether the endpoint has been reported to have answered or failed.
    judged: bool,
}

impl Upstream {
    /// Opens a session for a client.
    ///
    /// # Errors
    /// `BreakerOpen`, `NoEndpoint`, `UpstreamOverloaded`, `ConnectTimeout`, `UpstreamUnreachable`, `UpstreamTls`,
    /// `Overloaded`; nothing of the client has been sent.
    pub async fn open(self: &Arc<Self>, client: &Client, log: &mut Connecting) -> Result<Session, Fault> {
        let admission = if self.guarded { Some(self.admit(None, true).await?) } else { None };
        match self.connect(client, log).await {
            Ok((socket, attempt, connected)) => {
                Ok(Session { socket, attempt, admission, connected, judged: false })
            }
            Err(fault) => {
                if let Some(admission) = &admission {
                    admission.failed(&fault);
                }
                Err(fault)
            }
        }
        .map_err(|fault| self.noted(fault))
    }

    /// Connects to one endpoint after the other until one accepts.
    async fn connect(
        self: &Arc<Self>,
        client: &Client,
        log: &mut Connecting,
    ) -> Result<(Socket, Attempt, Duration), Fault> {
        let source = client.addresses.map(|addresses| addresses.source.ip());
        let headers = HeaderMap::new();
        let affinity = self.affinity(&Caller { headers: &headers, path: "", client: source, hash_key: None });
        let (mut tried, mut last) = (Vec::new(), None);
        loop {
            let attempt = match self.pick(&affinity, &tried) {
                Ok(attempt) => attempt,
                Err(fault) => return Err(last.unwrap_or(fault)),
            };
            log.endpoint = Some(attempt.endpoint().name.clone());
            log.attempts += 1;
            let begun = Instant::now();
            match self.reach(&attempt, client).await {
                Ok(socket) => {
                    attempt.begin(true, None);
                    let connected = begun.elapsed();
                    log.time = Some(connected);
                    return Ok((socket, attempt, connected));
                }
                Err(fault) if !blames_endpoint(&fault) => return Err(fault),
                Err(fault) => {
                    attempt.failed(Failing::of(&fault, Extent::Unreached));
                    if log.attempts >= self.config.retry.attempts || !self.config.retry.on.connect {
                        return Err(fault);
                    }
                    tried.push(attempt.member.clone());
                    last = Some(fault);
                }
            }
        }
    }

    async fn reach(self: &Arc<Self>, attempt: &Attempt, client: &Client) -> Result<Socket, Fault> {
        let permit = permit(self, attempt.endpoint()).await?;
        let transport = connect(attempt.endpoint(), &self.config, self.tls.as_ref(), Some(client)).await?;
        let socket = Socket::new(transport, permit);
        // With keep-alive probes, so that a session whose endpoint has lost power ends.
        prepare(socket.tcp().get_ref());
        Ok(socket)
    }
}

impl Session {
    /// The endpoint has answered, as far as a gateway can tell that does not know the protocol.
    fn answered(&mut self) {
        if !std::mem::replace(&mut self.judged, true) {
            self.attempt.answered(StatusCode::SWITCHING_PROTOCOLS, self.connected);
            if let Some(admission) = &self.admission {
                admission.connected(self.connected);
            }
        }
    }

    /// The connection to the endpoint failed.
    fn broke(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.judged, true) {
            return;
        }
        let cause = format!("{}: {error}", self.attempt.endpoint().name);
        let fault = Fault::new(FaultKind::UpstreamReset).cause(cause);
        self.attempt.failed(Failing::of(&fault, Extent::Reached));
        if let Some(admission) = &self.admission {
            admission.failed(&fault);
        }
    }

    /// Turns the close of the connection into a TCP reset, so that the endpoint learns that the client was cut off.
    pub fn reset_on_close(&self) {
        // Best effort: a closed socket needs no reset.
        let _ = SockRef::from(self.socket.tcp().get_ref()).set_linger(Some(Duration::ZERO));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.answered();
        self.attempt.completed();
        if let Some(admission) = &self.admission {
            admission.completed();
        }
    }
}

impl AsyncRead for Session {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_read(context, buffer);
        match &polled {
            Poll::Ready(Ok(())) => this.answered(),
            Poll::Ready(Err(error)) => this.broke(error),
            Poll::Pending => {}
        }
        polled
    }
}

impl AsyncWrite for Session {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write(context, bytes);
        if let Poll::Ready(Err(error)) = &polled {
            this.broke(error);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
