//! Turns what went wrong in an exchange with an endpoint into a fault.
//!
//! The fault with which the request's own body ended is not found here but in its
//! [`Progress`](crate::send::upload::Progress), because hyper and h2 report only that the stream was reset.

use std::error::Error;

use witgate_exchange::fault::{Blame, Fault, FaultKind};

/// The fault for an error of hyper.
pub(crate) fn fault_of(error: &hyper::Error) -> Fault {
    let kind = if is_ours(error) {
        FaultKind::Internal
    } else if error.is_parse() || is_protocol_error(error) {
        FaultKind::UpstreamProtocol
    } else {
        FaultKind::UpstreamReset
    };
    Fault::new(kind).cause(chain(error))
}

/// Whether an HTTP/2 endpoint said that it did not process the request, so that it may be sent again whatever its
/// method is (RFC 9113 section 8.7): it refused the stream, or its GOAWAY named an earlier stream as the last one
/// processed, with whatever code (section 6.8). After the peer's GOAWAY, the crate h2 ends only the streams above
/// the named one. The others continue, and end with the connection if they are cut off.
pub(crate) fn is_unprocessed(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

/// Whether an HTTP/2 endpoint shut the connection down properly: its GOAWAY named the last stream, with NO_ERROR.
pub(crate) fn is_farewell(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        error.is_remote() && error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// Whether an error of one HTTP/2 stream is the end of its connection, and so of all its streams. A reset ends one
/// stream only (RFC 9113 section 5.4.2).
pub(crate) fn ends_connection(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_none_or(|error| !error.is_reset())
}

/// Whether the gateway itself is the cause: it reset the stream, or it asked h2 for something that h2 does not
/// support.
fn is_ours(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        let from_outside = error.is_remote() || error.is_library() || error.is_io();
        !from_outside
    })
}

/// Whether the gateway refused what the endpoint sent as a protocol error. What the endpoint refuses is a reset.
fn is_protocol_error(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(h2::Error::is_library)
}

fn find<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whether a fault counts against the endpoint, rather than against the request, the client or the limits of the
/// upstream.
pub(crate) fn blames_endpoint(fault: &Fault) -> bool {
    !fault.by_request
        && fault.kind.describe().blame == Blame::Upstream
        && !matches!(
            fault.kind,
            FaultKind::UpstreamOverloaded
                | FaultKind::NoEndpoint
                | FaultKind::BreakerOpen
                | FaultKind::RequestTimeout
        )
}
