//! One attempt: gets a connection to the endpoint that was picked, sends the request, and reads the response head.

pub(crate) mod http1;
pub(crate) mod switch;
pub(crate) mod upload;

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::sleep_until;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc::Code;
use witgate_exchange::trace::SpanId;
use witgate_exchange::turn;
use witgate_telemetry::client_span::ClientSpan;

use super::connection::{Connection, Stream};
use super::deliver::{AttemptLog, Supplied};
use super::observe::{Extent, Failing};
use super::request::UpstreamRequest;
use super::response;
use crate::connection::lease::Lease;
use crate::pick::attempt::{Attempt, grpc_code};
use crate::response::download::{Download, Source, Underway};
use crate::response::failure::{blames_endpoint, ends_connection, fault_of, is_farewell, is_unprocessed};
use crate::send::http1::{Http1, OfAttempt};
use crate::send::upload::{Progress, Upload};

/// The number of stale connections of the pool that one attempt may meet before a new one is opened.
const STALE: usize = 2;

/// An attempt that failed.
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// The body, if nothing of it was sent.
    pub(crate) body: Option<Box<Body>>,
    /// How far the attempt got, if the failure counts against the endpoint.
    pub(crate) extent: Option<Extent>,
}

impl Failure {
    /// The failure of a request for which there was no connection.
    pub(crate) fn unsent(fault: Fault, body: Body) -> Failure {
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

/// Reports the outcome of an attempt to the circuit breaker of the endpoint. The body of a response streams from
/// now on.
pub(crate) fn conclude(
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

/// A response of which only the head has been read, with its connection.
pub(crate) struct UnreadResponse {
    /// Contains the HTTP/2 stream of the body. `None` for HTTP/1.1, whose body is read from the connection itself.
    response: Response<Option<Incoming>>,
    lease: Lease,
    upload: Option<Rc<Progress>>,
    /// When the head had arrived.
    arrived: Instant,
    /// `Some` for a call of gRPC: whether its deadline is the caller's own.
    grpc: Option<bool>,
}

/// Sends the request to one endpoint until there is a response: on further connections while those of the pool
/// turn out to be stale, and again if the endpoint says that it did not process it. The caller must call
/// [`conclude`] with the result.
pub(crate) async fn send(
    attempt: &Attempt,
    order: &UpstreamRequest<'_>,
    supplied: Supplied,
    deadline: Option<Instant>,
    notes: &mut AttemptLog,
) -> Result<UnreadResponse, Failure> {
    let (upstream, endpoint) = (&attempt.upstream, attempt.endpoint());
    notes.begin(endpoint);
    let Supplied { mut body, anew } = supplied;
    let mut stale = 0;
    loop {
        let (mut lease, sending) = connection(attempt, stale >= STALE, body, order).await?;
        let upload = Upload::new(sending);
        let progress = upload.progress();
        let (reused, waited) = (lease.reused, lease.waited);
        let mut span = ClientSpan::new(
            order.trace,
            order.method,
            &upstream.name,
            &endpoint.name,
            notes.attempts,
            deadline,
        );
        let begun = Begun::new(&mut lease, attempt, order, (span.id(), notes.attempts), upload)?;
        let since = attempt.begin(waited, progress.clone());
        span.begin(since);
        if progress.is_none() {
            // Not with a streaming body: there the client may be the one that is slow, and the endpoint is not to
            // blame.
            attempt.owe_answer_by(deadline.filter(|_| !order.caller_sets_deadline()));
        }
        notes.sent(since);
        let patience = order.patience(upstream.config.first_byte_timeout);
        let asked = ask(begun, order, (since, patience.time), upstream.config.response_headers);
        let is_movable = || order.is_repeatable() && anew.is_possible();
        let answered = tokio::select! {
            biased;
            answered = asked => answered,
            fault = attempt.checks_failed(is_movable), if attempt.is_checked() => Err(SendFailure::ChecksFailed(fault)),
        };
        let switched = answered.as_ref().ok().and_then(|response| switch::fault(order, response));
        let lost = match answered {
            Ok(_) if let Some(fault) = switched => fault.into(),
            Ok(response) => {
                let arrived = turn::now();
                notes.ended(arrived);
                span.answered(response.status(), Code::among(response.headers()).map(Code::number));
                notes.upload.clone_from(&progress);
                let grpc = order.grpc.then(|| order.caller_sets_deadline());
                return Ok(UnreadResponse { response, lease, upload: progress, arrived, grpc });
            }
            Err(lost) => lost,
        };
        lost.tell(span);
        notes.ended(turn::now());
        let (again, ended) = match lost {
            SendFailure::Unsent(unsent, fault) => {
                notes.unsent();
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
            SendFailure::ChecksFailed(fault) => return Err(Failure { fault, body: None, extent: None }),
            SendFailure::Late => {
                let fault = patience.exceeded(endpoint);
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

/// Why there is no response to a request.
pub(crate) enum SendFailure {
    /// Nothing of it was written.
    Unsent(Body, Fault),
    /// The request was sent in part or as a whole, and the exchange ended.
    Ended(Ended),
    /// The request's own body ended with a fault.
    Upload(Box<Fault>),
    /// There was no response in time.
    Late,
    /// The checks of the endpoint failed in the meantime.
    ChecksFailed(Fault),
}

impl SendFailure {
    /// Ends the span of the attempt.
    fn tell(&self, span: ClientSpan) {
        match self {
            SendFailure::Unsent(..) => span.unsent(),
            SendFailure::Ended(ended) => span.failed(ended.fault.kind),
            SendFailure::Upload(fault) => span.failed(fault.kind),
            SendFailure::ChecksFailed(fault) => span.failed(fault.kind),
            SendFailure::Late => span.failed(FaultKind::FirstByteTimeout),
        }
    }
}

/// How the exchange of a request ended of which at least a part was sent.
pub(crate) struct Ended {
    pub(crate) fault: Fault,
    /// Whether the connection ended before a byte of a response.
    pub(crate) silent: bool,
    /// Whether the endpoint said that it did not process the request.
    unprocessed: bool,
    /// Whether the endpoint said so because it shuts down, which is not a failure.
    farewell: bool,
    /// Whether a connection ended that other requests share.
    connection: bool,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Ended { fault, silent: false, unprocessed: false, farewell: false, connection: false }
    }
}

impl Ended {
    /// The connection ended before the response head was complete. `silent` is whether it ended before a byte of
    /// the head.
    pub(crate) fn with_connection(fault: Fault, silent: bool) -> Ended {
        Ended { silent, ..Ended::from(fault) }
    }

    /// Classifies an error of hyper.
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

/// A request that was built for its connection.
enum Begun<'a> {
    Http1 { connection: &'a mut Http1, head: OfAttempt<'a>, upload: Upload },
    Http2 { stream: &'a Stream, request: Box<Request<Upload>>, progress: Option<Rc<Progress>> },
}

impl<'a> Begun<'a> {
    fn new(
        lease: &'a mut Lease,
        attempt: &'a Attempt,
        order: &'a UpstreamRequest<'a>,
        (span, previous_attempts): (Option<SpanId>, u32),
        upload: Upload,
    ) -> Result<Self, Fault> {
        let endpoint = attempt.endpoint();
        Ok(match lease.connection() {
            Connection::Http1(connection) => {
                let response_headers = attempt.upstream.config.response_headers;
                let head = OfAttempt { host: order.host(endpoint)?, span, response_headers };
                Begun::Http1 { connection, head, upload }
            }
            Connection::Http2(stream) => {
                let progress = upload.progress();
                let request = order.request(
                    endpoint,
                    attempt.upstream.tls.is_some(),
                    upload,
                    (span, previous_attempts),
                )?;
                Begun::Http2 { stream, request: Box::new(request), progress }
            }
        })
    }
}

/// A connection for a request with this body, of which nothing has been sent yet.
async fn connection(
    attempt: &Attempt,
    fresh: bool,
    body: Body,
    order: &UpstreamRequest<'_>,
) -> Result<(Lease, Body), Failure> {
    tokio::select! {
        biased;
        taken = Lease::take(attempt, fresh, order.client.as_ref()) => match taken {
            Ok(lease) => Ok((lease, body)),
            Err(fault) => Err(Failure::unsent(fault, body)),
        },
        fault = attempt.checks_failed(|| true), if attempt.is_checked() => {
            Err(Failure { fault: fault.unsent(), body: Some(Box::new(body)), extent: None })
        }
    }
}

/// Sends a request that was built for its connection, and waits for the head of the response.
async fn ask(
    begun: Begun<'_>,
    order: &UpstreamRequest<'_>,
    (since, timeout): (Instant, Duration),
    response_headers: usize,
) -> Result<Response<Option<Incoming>>, SendFailure> {
    match begun {
        Begun::Http1 { connection, head, upload } => {
            let sent = connection.exchange(order, head, upload, since, timeout).await;
            sent.map(|response| response.map(|()| None))
        }
        Begun::Http2 { stream, request, progress } => {
            // Boxed, so that a request over HTTP/1.1 does not carry the state for HTTP/2.
            Box::pin(ask_http2(stream, *request, progress, (since, timeout), response_headers)).await
        }
    }
}

async fn ask_http2(
    stream: &Stream,
    request: Request<Upload>,
    progress: Option<Rc<Progress>>,
    (since, timeout): (Instant, Duration),
    response_headers: usize,
) -> Result<Response<Option<Incoming>>, SendFailure> {
    let progress = progress.as_deref();
    let mut response = tokio::select! {
        biased;
        sent = stream.send(request) => sent.map_err(|error| lost(error, progress))?,
        () = late(progress, since, timeout) => return Err(SendFailure::Late),
    };
    let status = response.status();
    response::admit(status, response.headers_mut(), response_headers)?;
    Ok(response.map(Some))
}

/// Classifies an error of hyper, and takes the request out of it if it was not sent. If the request's own body has
/// ended with a fault, the error is only a consequence of that fault.
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

/// Ends when no response has come for `timeout`. The time starts again whenever the request body makes progress.
/// It does not run while the gateway waits for the next piece of the body, because nobody knows when the endpoint
/// would respond without it.
async fn late(upload: Option<&Progress>, since: Instant, timeout: Duration) {
    loop {
        let now = Instant::now();
        let due = match upload {
            None => since + timeout,
            // Checked again after `timeout`, which is before the time can run out that starts with the next piece.
            Some(upload) if upload.is_awaited() => now + timeout,
            Some(upload) => upload.last().max(since) + timeout,
        };
        if now >= due {
            return;
        }
        sleep_until(due.into()).await;
    }
}

/// Reports what the head shows about the endpoint, and lets the body stream.
fn supervise(
    attempt: Attempt,
    unread: UnreadResponse,
    notes: &mut AttemptLog,
    deadline: Option<Instant>,
) -> Result<Response<Body>, Fault> {
    let UnreadResponse { response, lease, upload, arrived, grpc } = unread;
    let (parts, stream) = response.into_parts();
    let mut response = Response::from_parts(parts, Body::Empty);
    if let Some(caller_sets_deadline) = grpc {
        attempt.is_call(grpc_code(&response), caller_sets_deadline);
    }
    attempt.answered(response.status(), arrived.saturating_duration_since(attempt.since()));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(stream) = lease.into_switched() else {
            return Err(Fault::new(FaultKind::UpstreamProtocol).cause("101 before the request was through"));
        };
        notes.switched = Some(response::tunnel::supervise(stream, &attempt));
        return Ok(response);
    }
    let source = stream.map_or(Source::Http1, Source::Http2);
    let idle = attempt.upstream.config.idle_timeout;
    let download = Download::new(source, Underway { lease, attempt, upload }, idle, deadline);
    *response.body_mut() = download.begin(arrived)?;
    Ok(response)
}

/// A second copy of a body, if copying it is cheap.
pub(crate) fn spare(body: &Body) -> Option<Body> {
    match body {
        Body::Full(bytes) => Some(Body::Full(bytes.clone())),
        body if body.is_end_stream() => Some(Body::Empty),
        _ => None,
    }
}
