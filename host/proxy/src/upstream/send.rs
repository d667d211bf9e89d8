//! One attempt: a connection to the endpoint that was picked, the request, the answer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::sleep_until;

use super::attempt::Attempt;
use super::deliver::Notes;
use super::download::{Download, Underway};
use super::failure::{blames_endpoint, fault_of, is_unprocessed};
use super::lease::Lease;
use super::observe::Failing;
use super::request::Order;
use super::response;
use super::upload::{Progress, Upload};
use crate::body::Body;
use crate::fault::{Fault, FaultKind};

/// Stale connections of the pool met before a fresh one is opened.
const STALE: usize = 2;

/// An attempt that failed, with the body if nothing of it was sent.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) body: Option<Body>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure { fault, body: None }
    }
}

/// One endpoint: connection, request, answer; what it says about the endpoint goes to its breaker.
pub(super) async fn exchange_with(
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
                attempt.failed(Failing::Fault(failure.fault.kind));
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
        let begun = attempt.begin();
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
        attempt.failed(Failing::Fault(fault.kind));
        return Err(fault);
    }
    match response.status() {
        // What a proxy or an overloaded service in the endpoint's place says.
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            attempt.failed(Failing::Status(response.status()));
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

/// A second copy of a body, where it costs nothing.
fn spare(body: &Body) -> Option<Body> {
    match body {
        Body::Full(bytes) => Some(Body::Full(bytes.clone())),
        body if body.is_end_stream() => Some(Body::Empty),
        _ => None,
    }
}
