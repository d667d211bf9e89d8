//! The head of a request as it is written (RFC 9112 sections 3 and 5), straight from the order.

use std::io::Write;

use http::header::{HOST, HeaderName, HeaderValue, TE, UPGRADE, VIA};

use crate::protocol::http1::field;
use crate::telemetry::trace::{REQUEST_ID, TRACEPARENT, TRACESTATE};
use crate::upstream::deadline::Allowance;
use crate::upstream::request::{Framing, Order, Passport, is_of_connection};

/// Writes a head. Methods, targets, names and values are types that hold no byte which could end a line; what is only
/// text was checked by [`Order::host`] or is checked here.
pub(super) fn write(out: &mut Vec<u8>, order: &Order<'_>, host: &[u8], framing: Framing) {
    out.extend_from_slice(order.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(order.target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field::write_text(out, HOST.as_str(), host);
    let mut trailers = false;
    for (name, value) in order.headers {
        trailers |= *name == TE;
        let told = order.allowance.as_ref().is_some_and(|allowance| allowance.is_own(name));
        if told || is_own(name, order.passport.is_some()) {
            continue;
        }
        if let Some(value) = order.outgoing(name, value) {
            field::write(out, name, &value);
        }
    }
    connection(out, order.upgrade, trailers);
    if let Some(length) = framing.content_length(order.method) {
        // A vector takes whatever is written.
        let _ = write!(out, "content-length: {length}\r\n");
    } else if framing == Framing::Open {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if let Some(passport) = &order.passport {
        stamp(out, passport);
    }
    for (name, value) in order.allowance.iter().flat_map(Allowance::fields) {
        field::write(out, name, &value);
    }
    out.extend_from_slice(b"\r\n");
}

/// A header that the gateway writes itself, whatever the caller's map holds.
fn is_own(name: &HeaderName, passport: bool) -> bool {
    is_of_connection(name)
        || (passport && (*name == TRACEPARENT || *name == TRACESTATE || *name == REQUEST_ID))
}

/// Of hop-by-hop headers, only what is meant for this hop: a switch of protocols, and that trailers are welcome.
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

/// `Via`, trace context and request id.
fn stamp(out: &mut Vec<u8>, passport: &Passport<'_>) {
    field::write_text(out, VIA.as_str(), passport.via().as_bytes());
    field::write_text(out, TRACEPARENT.as_str(), &passport.trace.traceparent_text());
    if let Some(state) = passport.trace.state.as_deref().filter(|state| field::is_visible(state)) {
        field::write_text(out, TRACESTATE.as_str(), state.as_bytes());
    }
    if field::is_visible(passport.request_id) {
        field::write_text(out, REQUEST_ID.as_str(), passport.request_id.as_bytes());
    }
}
