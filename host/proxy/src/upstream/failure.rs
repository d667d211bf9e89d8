//! What went wrong in an exchange with an endpoint, said as a fault.
//!
//! What the request's own body ended with is not found here: it is in its [`Progress`](super::upload::Progress), because
//! hyper and h2 say no more of it than that the stream was reset.

use std::error::Error;

use witgate_exchange::fault::{Blame, Fault, FaultKind};

/// The fault behind an error of hyper.
pub(super) fn fault_of(error: &hyper::Error) -> Fault {
    let kind = if is_ours(error) {
        FaultKind::Internal
    } else if error.is_parse() || is_protocol_error(error) {
        FaultKind::UpstreamProtocol
    } else {
        FaultKind::UpstreamReset
    };
    Fault::new(kind).cause(chain(error))
}

/// Whether an HTTP/2 endpoint said that it did not process the request, so that it may be sent again whatever its method
/// (RFC 9113 section 8.7): it refused the stream, or it said by GOAWAY that it got no further than a stream before this
/// one, with whatever code (section 6.8). The crate h2 ends with the peer's GOAWAY only the streams above the last one that
/// it names; those that it covers go on, and end with the connection if they are cut off.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

/// Whether an HTTP/2 endpoint left in good order: it told the last stream that it takes, and that nothing is wrong.
pub(super) fn is_farewell(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        error.is_remote() && error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// Whether an error of one HTTP/2 stream is the end of its connection, and so of all streams of it. A stream ends alone by
/// a reset (RFC 9113 section 5.4.2).
pub(super) fn ends_connection(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_none_or(|error| !error.is_reset())
}

/// What was neither said by the endpoint nor seen in what it sent: the gateway itself reset the stream, or asked h2 for
/// what it does not do.
fn is_ours(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        let from_outside = error.is_remote() || error.is_library() || error.is_io();
        !from_outside
    })
}

/// What we refused in HTTP/2; what the endpoint refused is a reset.
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

/// An error with everything it was caused by.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whether a fault speaks against the endpoint, rather than against the request, the client or the upstream's limits.
pub(super) fn blames_endpoint(fault: &Fault) -> bool {
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
