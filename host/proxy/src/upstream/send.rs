//! One attempt: a connection to the endpoint that was picked, the request, the answer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::sleep_until;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::trace::SpanId;
use witgate_exchange::turn;

use super::attempt::Attempt;
use super::connection::{Connection, Stream};
use super::deliver::{AttemptLog, Supplied};
use super::download::{Download, Source, Underway};
use super::failure::{blames_endpoint, ends_connection, fault_of, is_farewell, is_unprocessed};
use super::http1::{Http1, OfAttempt};
use super::lease::Lease;
use super::observe::{Extent, Failing};
use super::request::UpstreamRequest;
use super::response;
use super::upload::{Progress, Upload};
use crate::telemetry::client_span::ClientSpan;

/// Stale connections of the pool met before a fresh one is opened.
const STALE: usize = 2;

/// An attempt that failed.
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// The body, if nothing of it was sent.
    pub(super) body: Option<Box<Body>>,
    /// How far it got, if it speaks against the endpoint.
    pub(super) extent: Option<Extent>,
}

impl Failure {
    /// A request that did not get as far as a connection of its own.
    pub(super) fn unsent(fault: Fault, body: Body) -> Failure {
        let extent = blames_endpoint(&fault).then_some(Extent::Unreached);
        Failure { fault: fault.unsent(), body: Some(Box::new(body)), extent }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let extent = blames_endpoint(&fault).then_some(Extent::Reached);
        Failure { fault, body: None, extent }
    }
}

/// Tells the endpoint's breaker what became of an attempt. From now on the body of a response streams behind its head.
pub(super) fn conclude(
    attempt: Attempt,
    sent: Result<UnreadResponse, Failure>,
    deadline: Option<Instant>,
    notes: &mut AttemptLog,
) -> Result<Response<Body>, Failure> {
    match sent {
        Ok(unread) => Ok(supervise(attempt, unread, notes, deadline)?),
        Err(failure) => {
            if let Some(extent) = failure.extent {
                attempt.failed(Failing::of(&failure.fault, extent));
            }
            Err(failure)
        }
    }
}

/// A response of which only the head was read, with the connection that it came on.
pub(super) struct UnreadResponse {
    /// With the stream of its body, if the body is not read off the connection itself.
    response: Response<Option<Incoming>>,
    lease: Lease,
    upload: Option<Rc<Progress>>,
    /// When the head was there.
    arrived: Instant,
}

/// One endpoint: sends the request until it is answered, on as many connections as it takes to find one that is not stale,
/// and again if the endpoint says that it did not process it. [`conclude`] has to follow.
pub(super) async fn send(
    attempt: &Attempt,
    order: &UpstreamRequest<'_>,
    supplied: Supplied,
    deadline: Option<Instant>,
    notes: &mut AttemptLog,
) -> Result<UnreadResponse, Failure> {
    let (upstream, endpoint) = (&attempt.upstream, attempt.endpoint());
    notes.endpoint = Some(endpoint.name.clone());
    let Supplied { mut body, anew } = supplied;
    let mut stale = 0;
    loop {
        let mut lease = match Lease::take(attempt, stale >= STALE).await {
            Ok(lease) => lease,
            Err(fault) => return Err(Failure::unsent(fault, body)),
        };
        let upload = Upload::new(body);
        let progress = upload.progress();
        let (reused, waited) = (lease.reused, lease.waited);
        let mut span =
            ClientSpan::new(order.trace, order.method, &upstream.name, &endpoint.name, notes.attempts);
        let begun = Begun::new(&mut lease, attempt, order, span.id(), upload)?;
        let since = attempt.begin(waited, progress.clone());
        span.begin(since);
        if progress.is_none() {
            // A client that is slow to send its body makes its endpoint late; otherwise it is the endpoint's own doing.
            attempt.owe_answer_by(deadline);
        }
        notes.attempts += 1;
        let patience = order.patience(upstream.config.first_byte_timeout);
        let answered = match begun {
            Begun::Http1 { connection, head, upload } => {
                let sent = connection.exchange(order, head, upload, since, patience).await;
                sent.map(|response| response.map(|_| None))
            }
            Begun::Http2 { stream, request, progress } => {
                // Boxed, so that a request over HTTP/1.1 does not carry room for it.
                Box::pin(ask_http2(stream, *request, progress, since, patience)).await
            }
        };
        let lost = match answered {
            Ok(response) => {
                let arrived = turn::now();
                notes.time = Some(arrived - since);
                span.answered(response.status());
                notes.upload.clone_from(&progress);
                return Ok(UnreadResponse { response, lease, upload: progress, arrived });
            }
            Err(lost) => lost,
        };
        lost.tell(span);
        let (again, ended) = match lost {
            SendFailure::Unsent(unsent, fault) => {
                notes.attempts -= 1;
                if !(reused && stale <= STALE) {
                    return Err(Failure::unsent(fault, unsent));
                }
                (Some(unsent), Ended::from(fault))
            }
            SendFailure::Ended(ended) => {
                let repeatable = ended.unprocessed || (ended.silent && reused && order.is_idempotent());
                (if repeatable && stale <= STALE { anew.body() } else { None }, ended)
            }
            SendFailure::Upload(fault) => return Err(Failure::from(*fault)),
            SendFailure::Late => {
                let fault = Fault::new(FaultKind::FirstByteTimeout).cause(endpoint.name.to_string());
                return Err(Failure { extent: Some(Extent::Reached), ..fault.into() });
            }
        };
        body = match again {
            Some(body) => body,
            None => return Err(ended.into_failure(&lease)),
        };
        stale += 1;
    }
}

/// Why a request was not answered.
pub(super) enum SendFailure {
    /// Nothing of it was written.
    Unsent(Body, Fault),
    /// It was begun.
    Ended(Ended),
    /// Its own body ended with a fault.
    Upload(Box<Fault>),
    /// Nothing came in time.
    Late,
}

impl SendFailure {
    /// Ends the span of the attempt.
    fn tell(&self, span: ClientSpan) {
        match self {
            SendFailure::Unsent(..) => span.unsent(),
            SendFailure::Ended(ended) => span.failed(ended.fault.kind),
            SendFailure::Upload(fault) => span.failed(fault.kind),
            SendFailure::Late => span.failed(FaultKind::FirstByteTimeout),
        }
    }
}

/// How a request ended that was begun.
pub(super) struct Ended {
    pub(super) fault: Fault,
    /// The connection ended before a byte of an answer.
    pub(super) silent: bool,
    /// The endpoint said that it did not process it.
    unprocessed: bool,
    /// The endpoint said so because it leaves, which is no failure.
    farewell: bool,
    /// With it ended a connection that other requests share.
    connection: bool,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Ended { fault, silent: false, unprocessed: false, farewell: false, connection: false }
    }
}

impl Ended {
    /// The connection ended before the head of an answer did; `silent`: before a byte of it.
    pub(super) fn with_connection(fault: Fault, silent: bool) -> Ended {
        Ended { silent, ..Ended::from(fault) }
    }

    /// What an error of hyper says.
    fn of(error: &hyper::Error) -> Ended {
        let (fault, connection) = (fault_of(error), ends_connection(error));
        Ended {
            silent: connection && fault.kind == FaultKind::UpstreamReset,
            unprocessed: is_unprocessed(error),
            farewell: is_farewell(error),
            connection,
            fault,
        }
    }

    fn into_failure(self, lease: &Lease) -> Failure {
        let shared = self.connection && lease.tell_end();
        let counts = blames_endpoint(&self.fault) && !self.farewell;
        let fault = Fault { unsent: self.unprocessed, shared, ..self.fault };
        Failure { fault, body: None, extent: counts.then_some(Extent::Reached) }
    }
}

impl From<Fault> for SendFailure {
    fn from(fault: Fault) -> Self {
        SendFailure::Ended(fault.into())
    }
}

/// A request made for its connection.
enum Begun<'a> {
    Http1 { connection: &'a mut Http1, head: OfAttempt<'a>, upload: Upload },
    Http2 { stream: &'a Stream, request: Box<Request<Upload>>, progress: Option<Rc<Progress>> },
}

impl<'a> Begun<'a> {
    fn new(
        lease: &'a mut Lease,
        attempt: &'a Attempt,
        order: &'a UpstreamRequest<'a>,
        span: Option<SpanId>,
        upload: Upload,
    ) -> Result<Self, Fault> {
        let endpoint = attempt.endpoint();
        Ok(match lease.connection() {
            Connection::Http1(connection) => {
                let head = OfAttempt { host: order.host(endpoint)?, span };
                Begun::Http1 { connection, head, upload }
            }
            Connection::Http2(stream) => {
                let progress = upload.progress();
                let request = order.request(endpoint, attempt.upstream.tls.is_some(), upload, span)?;
                Begun::Http2 { stream, request: Box::new(request), progress }
            }
        })
    }
}

async fn ask_http2(
    stream: &Stream,
    request: Request<Upload>,
    progress: Option<Rc<Progress>>,
    since: Instant,
    timeout: Duration,
) -> Result<Response<Option<Incoming>>, SendFailure> {
    let progress = progress.as_deref();
    let mut response = tokio::select! {
        biased;
        sent = stream.send(request) => sent.map_err(|error| lost(error, progress))?,
        () = late(progress, since, timeout) => return Err(SendFailure::Late),
    };
    let status = response.status();
    response::admit(status, response.headers_mut())?;
    Ok(response.map(Some))
}

/// What an error of hyper leaves of a request. Where the request's own body has ended with a fault, the error is only its
/// echo.
fn lost(mut error: TrySendError<Request<Upload>>, upload: Option<&Progress>) -> SendFailure {
    if let Some(fault) = upload.and_then(Progress::take_fault) {
        return SendFailure::Upload(Box::new(fault));
    }
    let unsent = error.take_message();
    let error = error.into_error();
    match unsent {
        Some(request) => SendFailure::Unsent(request.into_body().into_body(), fault_of(&error)),
        None => SendFailure::Ended(Ended::of(&error)),
    }
}

/// Runs out once nothing has come for so long. While a request body moves on, the time begins anew; while its next piece is
/// waited for, it does not run, because nobody knows what the endpoint would do with it.
async fn late(upload: Option<&Progress>, since: Instant, timeout: Duration) {
    loop {
        let now = Instant::now();
        let due = match upload {
            None => since + timeout,
            // Looked at again before the time could run out that begins with the next piece.
            Some(upload) if upload.is_awaited() => now + timeout,
            Some(upload) => upload.last().max(since) + timeout,
        };
        if now >= due {
            return;
        }
        sleep_until(due.into()).await;
    }
}

/// Tells what the head says of the endpoint, and lets the body stream.
fn supervise(
    attempt: Attempt,
    unread: UnreadResponse,
    notes: &mut AttemptLog,
    deadline: Option<Instant>,
) -> Result<Response<Body>, Fault> {
    let UnreadResponse { response, lease, upload, arrived } = unread;
    let (parts, stream) = response.into_parts();
    let mut response = Response::from_parts(parts, Body::Empty);
    attempt.answered(response.status(), arrived.saturating_duration_since(attempt.since()));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(stream) = lease.into_switched() else {
            return Err(Fault::new(FaultKind::UpstreamProtocol).cause("101 before the request was through"));
        };
        notes.switched = Some(stream);
        return Ok(response);
    }
    let source = stream.map_or(Source::Http1, Source::Http2);
    let idle = attempt.upstream.config.idle_timeout;
    let download = Download::new(source, Underway { lease, attempt, upload }, idle, deadline);
    *response.body_mut() = download.begin(arrived)?;
    Ok(response)
}

/// A second copy of a body, where it costs nothing.
pub(super) fn spare(body: &Body) -> Option<Body> {
    match body {
        Body::Full(bytes) => Some(Body::Full(bytes.clone())),
        body if body.is_end_stream() => Some(Body::Empty),
        _ => None,
    }
}
