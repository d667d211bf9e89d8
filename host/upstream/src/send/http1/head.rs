//! Writes the head of a request (RFC 9112 sections 3 and 5) directly from the [`UpstreamRequest`].

use std::io::Write;

use http::header::{HOST, HeaderName, HeaderValue, TE, TRAILER, UPGRADE, VIA};
use witgate_exchange::trace::{REQUEST_ID, SpanId, TRACEPARENT, TRACESTATE, TraceContext};
use witgate_wire::http1::field;

use crate::request::deadline::Allowance;
use crate::request::{ForwardingHeaders, Framing, UpstreamRequest, is_of_connection};

/// The parts of the head that belong to one attempt only.
#[derive(Clone, Copy)]
pub(crate) struct OfAttempt<'a> {
    /// The value of `Host`.
    pub(crate) host: &'a [u8],
    /// The span of the attempt, if the request is traced.
    pub(crate) span: Option<SpanId>,
    /// The most fields of the response head.
    pub(crate) response_headers: usize,
}

/// Writes a head. The types of methods, targets, names and values exclude bytes that could end a line. Plain text
/// was validated by [`UpstreamRequest::host`] or is validated here.
pub(crate) fn write(
    out: &mut Vec<u8>,
    order: &UpstreamRequest<'_>,
    attempt: OfAttempt<'_>,
    framing: Framing,
) {
    out.extend_from_slice(order.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(order.target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field::write_text(out, HOST.as_str(), attempt.host);
    let mut trailers = false;
    for (name, value) in order.headers {
        trailers |= *name == TE;
        let told = order.allowance.as_ref().is_some_and(|allowance| allowance.is_own(name));
        // Trailers that cannot be sent are not announced either (RFC 9110 section 6.6.2).
        if told || is_own(name, order) || *name == TRAILER && framing != Framing::Open {
            continue;
        }
        if let Some(value) = order.outgoing(name, value) {
            field::write(out, name, &value);
        }
    }
    connection(out, order.upgrade, trailers);
    if let Some(length) = framing.content_length(order.method) {
        // Writing to a vector cannot fail.
        let _ = write!(out, "content-length: {length}\r\n");
    } else if framing == Framing::Open {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if let Some(forwarding) = &order.forwarding {
        stamp(out, forwarding);
    }
    if let Some((trace, span)) = order.trace.zip(attempt.span) {
        trace_context(out, trace, &span);
    }
    for (name, value) in order.allowance.iter().flat_map(Allowance::fields) {
        field::write(out, name, &value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a header is written by the gateway itself, so that it is not copied from the caller's headers.
fn is_own(name: &HeaderName, order: &UpstreamRequest<'_>) -> bool {
    is_of_connection(name)
        || (order.trace.is_some() && (*name == TRACEPARENT || *name == TRACESTATE))
        || (order.forwarding.is_some() && *name == REQUEST_ID)
}

/// Writes the hop-by-hop headers of this hop: for a switch of protocols, and to say that trailers are accepted.
fn connection(out: &mut Vec<u8>, upgrade: Option<&HeaderValue>, trailers: bool) {
    if trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    if let Some(upgrade) = upgrade {
        field::write(out, &UPGRADE, upgrade);
    }
    out.extend_from_slice(match (upgrade.is_some(), trailers) {
        (true, true) => b"connection: upgrade, te\r\n",
        (true, false) => b"connection: upgrade\r\n",
        (false, true) => b"connection: te\r\n",
        (false, false) => b"",
    });
}

/// Writes the trace context, with the span of this attempt as the parent of the endpoint's spans.
fn trace_context(out: &mut Vec<u8>, trace: &TraceContext, span: &SpanId) {
    field::write_text(out, TRACEPARENT.as_str(), &trace.traceparent(span));
    if let Some(state) = trace.state.as_deref().filter(|state| field::is_visible(state)) {
        field::write_text(out, TRACESTATE.as_str(), state.as_bytes());
    }
}

/// Writes `Via` and the request id.
fn stamp(out: &mut Vec<u8>, forwarding: &ForwardingHeaders<'_>) {
    field::write_text(out, VIA.as_str(), forwarding.via().as_bytes());
    if field::is_visible(forwarding.request_id) {
        field::write_text(out, REQUEST_ID.as_str(), forwarding.request_id.as_bytes());
    }
}
