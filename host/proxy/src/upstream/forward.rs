//! What a walk wants of its upstream, said as an order, and what became of it, said to the record.

use std::pin::pin;

use http::Response;
use http::header::SET_COOKIE;
use witgate_config::model::Action;

use super::deadline::{self, Allowance};
use super::deliver::{AttemptLog, Rules, deliver, within};
use super::fallback::deliver_or_fall_back;
use super::mirror::mirror;
use super::request::{ForwardingHeaders, UpstreamRequest};
use crate::balancer::Caller;
use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::pipeline::exchange::Exchange;
use crate::protocol::upgrade::Side;

/// Sends the exchange's request to its upstream. `answer` gets the head of its response with the body streaming behind; it
/// is filled where it stays, for it is large.
/// An endpoint that answers 101 leaves its side of the tunnel in the exchange.
///
/// What the upstream sees: the exchange's method and target (or what stages want it to see) in origin form, end-to-end
/// headers, `Host` (the client's or the endpoint's), `Via` (RFC 9110 section 7.6.3 obliges gateways), the request id, and
/// the framing of `body`. Headers of the gateway's own other than these are in the head already. Where spans are exported,
/// `traceparent` and `tracestate` are the gateway's too, and each attempt tells its own span; elsewhere they are end-to-end
/// headers like others.
///
/// How often, and to which endpoints, is decided by `deliver`. Within one attempt a request is sent again if nothing of it
/// was written, if the endpoint says that it did not process it, and, on a
/// connection that was used before, if the connection ended without a byte of an answer and the method is idempotent.
///
/// # Errors
/// Any fault with blame `Upstream`, `RequestTimeout`, or what the request's own body ended with.
pub async fn forward(exchange: &mut Exchange, body: Body, answer: &mut Response<Body>) -> Result<(), Fault> {
    let name = exchange.upstream.as_ref().ok_or_else(|| internal("no stage chose an upstream"))?;
    let upstream =
        exchange.snapshot.upstreams.get(name).ok_or_else(|| internal("the upstream does not exist"))?;
    let head = &*exchange.head;
    let forward = match exchange.route.as_ref().map(|route| &route.config.action) {
        Some(Action::Forward(forward)) => Some(forward),
        _ => None,
    };
    let preserve_host = forward.is_some_and(|forward| forward.preserve_host);
    let grpc = deadline::is_grpc(&head.headers);
    let asked_for = deadline::asked_for(&head.headers, grpc, upstream.deadline_header.as_ref())?;
    let timeout = exchange.timeout.into_iter().chain(asked_for).min();
    let deadline = timeout.map(|timeout| exchange.begun + timeout);
    let allowance = |deadline| Allowance { deadline, grpc, header: upstream.deadline_header.as_ref() };
    let body = match forward.and_then(|forward| forward.mirror.as_ref()) {
        Some(settings) => mirror(exchange, settings, preserve_host, body),
        None => body,
    };
    let caller = Caller {
        headers: &head.headers,
        path: head.path(),
        client: Some(head.client.address),
        hash_key: exchange.hash_key.as_deref(),
    };
    let affinity = upstream.affinity(&caller);
    let order = UpstreamRequest {
        method: head.upstream_method.as_ref().unwrap_or(&head.method),
        target: head.upstream_target.as_ref().unwrap_or(&head.target),
        headers: &head.headers,
        authority: preserve_host.then_some(&*head.authority),
        upgrade: exchange.upgrade.as_ref(),
        caller,
        affinity,
        without_cookie: upstream.config.sticky.as_ref().map(|sticky| &*sticky.cookie),
        shareable: head.identity.is_none().then_some(head.scheme),
        forwarding: Some(ForwardingHeaders { request_id: &head.request_id, received: exchange.version }),
        trace: head.trace.as_ref(),
        rules: Rules::new(&upstream.config.retry, forward.map(|forward| &forward.retry)),
        allowance: deadline.map(allowance),
        body_memory: &exchange.snapshot.body_memory,
    };
    let mut notes = AttemptLog::default();
    let delivered = if upstream.is_plain() {
        let delivering = deliver(upstream, &order, body, deadline, &mut notes);
        within(deadline, pin!(delivering)).await.map_err(|fault| upstream.noted(fault))
    } else {
        // Boxed, so that requests to upstreams without any of this do not carry its state around.
        let (snapshot, notes) = (&exchange.snapshot, &mut notes);
        let delivering = deliver_or_fall_back(snapshot, upstream, &order, body, deadline, notes);
        within(deadline, Box::pin(delivering).as_mut()).await
    };
    exchange.local_response |= notes.local;
    exchange.record.attempts = notes.attempts;
    let is_own = notes.instead.is_none() && !notes.local;
    if let (Ok(_), Some(endpoint), true) = (&delivered, &notes.endpoint, is_own)
        && let Some(cookie) = upstream.session_cookie(affinity, endpoint, head.scheme)
    {
        exchange.response_headers.push((SET_COOKIE, cookie));
    }
    let of = || notes.instead.unwrap_or_else(|| name.clone());
    exchange.record.endpoint = notes.endpoint.map(|endpoint| (of(), endpoint));
    exchange.record.upstream_time = notes.time;
    exchange.upstream_side = notes.switched.map(Side::Switched);
    exchange.record.repeats = notes.repeats;
    match delivered {
        Err(fault) if fault.kind == FaultKind::RequestTimeout => {
            upstream.tries().deadline_exceeded();
            if !grpc {
                return Err(fault);
            }
            *answer = deadline::exceeded(exchange.fault(fault));
            Ok(())
        }
        delivered => delivered.map(|response| *answer = response),
    }
}

fn internal(cause: &'static str) -> Fault {
    Fault::new(FaultKind::Internal).cause(cause)
}
