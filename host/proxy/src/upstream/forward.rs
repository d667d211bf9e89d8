//! One exchange with an upstream: pick, connection, send, supervise.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{sleep_until, timeout_at};
use witgate_config::model::Action;

use super::Upstream;
use super::attempt::Attempt;
use super::download::{Download, Underway};
use super::failure::{fault_of, is_unprocessed};
use super::lease::Lease;
use super::request::{Order, Passport};
use super::response;
use super::upload::{Progress, Upload};
use crate::body::Body;
use crate::fault::{Blame, Fault, FaultKind};
use crate::pipeline::exchange::Exchange;

/// Endpoints tried for one request, while nothing of it was sent.
const ENDPOINTS: usize = 3;
/// Stale connections of the pool met before a fresh one is opened.
const STALE: usize = 2;

/// Sends the exchange's request to its upstream and returns the head of its response with the body streaming behind.
/// An endpoint that answers 101 leaves its `OnUpgrade` in the response's extensions.
///
/// What the upstream sees: the exchange's method and target (or what stages want it to see) in origin form, end-to-end
/// headers, `Host` (the client's or the endpoint's), `Via` (RFC 9110 section 7.6.3 obliges gateways), `traceparent`,
/// `tracestate`, the request id, and the framing of `body`. Headers of the gateway's own other than these are in the
/// head already.
///
/// A request is sent again if hyper hands it back unsent, if the endpoint says that it did not process it, and, on a
/// connection that was used before, if the connection ended without a byte of an answer and the method is idempotent.
///
/// # Errors
/// Any fault with blame `Upstream`, `RequestTimeout`, or what the request's own body ended with.
pub async fn forward(exchange: &mut Exchange, body: Body) -> Result<Response<Body>, Fault> {
    let name = exchange.upstream.clone().ok_or_else(|| internal("no stage chose an upstream"))?;
    let upstream =
        exchange.snapshot.upstreams.get(&name).ok_or_else(|| internal("the upstream does not exist"))?;
    let head = exchange.head.clone();
    let preserve_host = match exchange.route.as_ref().map(|route| &route.config.action) {
        Some(Action::Forward(forward)) => forward.preserve_host,
        _ => false,
    };
    let order = Order {
        method: head.upstream_method.as_ref().unwrap_or(&head.method),
        target: head.upstream_target.as_ref().unwrap_or(&head.target),
        headers: &head.headers,
        authority: preserve_host.then_some(&*head.authority),
        upgrade: exchange.upgrade.as_ref(),
        hash_key: exchange.hash_key.as_deref(),
        passport: Some(Passport {
            trace: &head.trace,
            request_id: &head.request_id,
            received: exchange.version,
        }),
    };
    let deadline = exchange.timeout.map(|timeout| exchange.begun + timeout);
    let mut notes = Notes::default();
    let delivered = within(deadline, deliver(upstream, &order, body, deadline, &mut notes)).await;
    exchange.record.attempts = notes.attempts;
    exchange.record.endpoint = notes.endpoint.map(|endpoint| (name, endpoint));
    exchange.record.upstream_begun = notes.begun;
    exchange.record.upstream_time = notes.time;
    delivered
}

/// What is noted about an exchange for the record.
#[derive(Default)]
pub(super) struct Notes {
    endpoint: Option<Arc<str>>,
    attempts: u32,
    begun: Option<Instant>,
    time: Option<Duration>,
}

/// An attempt that failed, with the body if nothing of it was sent.
struct Failure {
    fault: Fault,
    body: Option<Body>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure { fault, body: None }
    }
}

/// Tries endpoints until one answers. Another is tried only if nothing can have reached the one before.
pub(super) async fn deliver(
    upstream: &Arc<Upstream>,
    order: &Order<'_>,
    mut body: Body,
    deadline: Option<Instant>,
    notes: &mut Notes,
) -> Result<Response<Body>, Fault> {
    let mut tried = Vec::new();
    let mut last = None;
    loop {
        let attempt = match upstream.pick(order.hash_key, &tried) {
            Ok(attempt) => attempt,
            Err(fault) => return Err(last.unwrap_or(fault)),
        };
        let index = attempt.index;
        match exchange_with(attempt, order, body, deadline, notes).await {
            Ok(response) => return Ok(response),
            Err(Failure { fault, body: Some(unsent) })
                if blames_endpoint(&fault) && tried.len() + 1 < ENDPOINTS =>
            {
                tried.push(index);
                body = unsent;
                last = Some(fault);
            }
            Err(failure) => return Err(failure.fault),
        }
    }
}

/// One endpoint: connection, request, answer; what it says about the endpoint goes to its breaker.
async fn exchange_with(
    attempt: Attempt,
    order: &Order<'_>,
    body: Body,
    deadline: Option<Instant>,
    notes: &mut Notes,
) -> Result<Response<Body>, Failure> {
    notes.endpoint = Some(attempt.endpoint().name.clone());
    match send(&attempt, order, body, notes).await {
        Ok(answer) => Ok(supervise(attempt, answer, order, deadline).await?),
        Err(failure) => {
            if blames_endpoint(&failure.fault) {
                attempt.failed();
            }
            Err(failure)
        }
    }
}

/// The head of a response, and the connection it came on.
struct Answer {
    response: Response<Incoming>,
    lease: Lease,
    upload: Option<Rc<Progress>>,
}

/// Sends the request until it is answered, on as many connections as it takes to find one that is not stale.
async fn send(
    attempt: &Attempt,
    order: &Order<'_>,
    mut body: Body,
    notes: &mut Notes,
) -> Result<Answer, Failure> {
    let (upstream, endpoint) = (&attempt.upstream, attempt.endpoint());
    let config = &upstream.config;
    let mut stale = 0;
    loop {
        let mut lease = match Lease::take(upstream, endpoint, stale >= STALE).await {
            Ok(lease) => lease,
            Err(fault) => return Err(Failure { fault, body: Some(body) }),
        };
        let spare = spare(&body);
        let (upload, progress) = Upload::new(body);
        let request = order.request(endpoint, config.protocol, upstream.tls.is_some(), upload)?;
        let begun = Instant::now();
        notes.attempts += 1;
        notes.begun = Some(begun);
        let lost = match answer(&mut lease, request, progress.as_deref(), config.first_byte_timeout).await {
            Ok(response) => {
                notes.time = Some(begun.elapsed());
                return Ok(Answer { response, lease, upload: progress });
            }
            Err(lost) => lost,
        };
        let may_repeat = stale <= STALE;
        body = match lost {
            Lost::Unsent(body, error) => {
                notes.attempts -= 1;
                if !(lease.reused && may_repeat) {
                    return Err(Failure { fault: fault_of(&error).unsent(), body: Some(body) });
                }
                body
            }
            Lost::Failed(error) => {
                let repeatable = is_unprocessed(&error) || (lease.reused && order.is_idempotent());
                let fault = fault_of(&error);
                match spare {
                    Some(spare) if may_repeat && repeatable && fault.kind == FaultKind::UpstreamReset => {
                        spare
                    }
                    _ => return Err(fault.into()),
                }
            }
            Lost::Late => {
                return Err(Fault::new(FaultKind::FirstByteTimeout).cause(endpoint.name.to_string()).into());
            }
        };
        stale += 1;
    }
}

/// Why a request was not answered.
enum Lost {
    /// It was not begun.
    Unsent(Body, hyper::Error),
    /// It was begun.
    Failed(hyper::Error),
    /// Nothing came in time.
    Late,
}

/// Sends a request and waits for the head of its response.
async fn answer(
    lease: &mut Lease,
    request: Request<Upload>,
    upload: Option<&Progress>,
    timeout: Duration,
) -> Result<Response<Incoming>, Lost> {
    let late = late(upload, timeout);
    tokio::select! {
        biased;
        sent = lease.send(request) => sent.map_err(|mut error| match error.take_message() {
            Some(request) => Lost::Unsent(request.into_body().into_body(), error.into_error()),
            None => Lost::Failed(error.into_error()),
        }),
        () = late => Err(Lost::Late),
    }
}

/// Runs out once nothing has come for so long; while a request body moves on, the time begins anew.
async fn late(upload: Option<&Progress>, timeout: Duration) {
    let begun = Instant::now();
    loop {
        let due = upload.map_or(begun, |upload| upload.last().max(begun)) + timeout;
        if Instant::now() >= due {
            return;
        }
        sleep_until(due.into()).await;
    }
}

/// Checks the head and lets the body stream.
async fn supervise(
    attempt: Attempt,
    answer: Answer,
    order: &Order<'_>,
    deadline: Option<Instant>,
) -> Result<Response<Body>, Fault> {
    let Answer { mut response, lease, upload } = answer;
    if let Err(fault) = response::admit(&mut response, order.upgrade.is_some()) {
        attempt.failed();
        return Err(fault);
    }
    match response.status() {
        // What a proxy or an overloaded service in the endpoint's place says.
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            attempt.failed()
        }
        _ => attempt.answered(),
    }
    let (parts, incoming) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        // The connection goes to the tunnel, which finds it in the extensions.
        return Ok(Response::from_parts(parts, Body::Empty));
    }
    let idle = attempt.upstream.config.idle_timeout;
    let download = Download::new(incoming, Underway { lease, attempt, upload }, idle, deadline);
    Ok(Response::from_parts(parts, download.begin().await?))
}

/// Runs until the deadline of the whole request.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    exchange: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match deadline {
        None => exchange.await,
        Some(deadline) => timeout_at(deadline.into(), exchange)
            .await
            .unwrap_or_else(|_| Err(Fault::new(FaultKind::RequestTimeout))),
    }
}

/// A second copy of a body, where it costs nothing.
fn spare(body: &Body) -> Option<Body> {
    match body {
        Body::Full(bytes) => Some(Body::Full(bytes.clone())),
        body if body.is_end_stream() => Some(Body::Empty),
        _ => None,
    }
}

/// Whether a fault speaks against the endpoint, rather than against the client or the upstream's limits.
fn blames_endpoint(fault: &Fault) -> bool {
    fault.kind.describe().blame == Blame::Upstream
        && !matches!(
            fault.kind,
            FaultKind::UpstreamOverloaded
                | FaultKind::NoEndpoint
                | FaultKind::BreakerOpen
                | FaultKind::RequestTimeout
        )
}

fn internal(cause: &'static str) -> Fault {
    Fault::new(FaultKind::Internal).cause(cause)
}
