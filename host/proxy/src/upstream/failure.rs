//! What went wrong in an exchange with an endpoint, said as a fault.

use std::error::Error;

use crate::fault::{Blame, Fault, FaultKind};

/// The fault behind an error of hyper. A fault of the request's own body (too large, client gone) is handed on.
pub(super) fn fault_of(error: &hyper::Error) -> Fault {
    if let Some(fault) = find::<Fault>(error) {
        let mut same = Fault::new(fault.kind);
        same.detail.clone_from(&fault.detail);
        same.cause.clone_from(&fault.cause);
        return same;
    }
    let kind = if error.is_parse() || is_protocol_error(error) {
        FaultKind::UpstreamProtocol
    } else {
        FaultKind::UpstreamReset
    };
    Fault::new(kind).cause(chain(error))
}

/// Whether an HTTP/2 endpoint said that it did not process the request (RFC 9113 section 8.7), so that it may be sent
/// again whatever its method.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}

/// Whether an error of one HTTP/2 stream is the end of its connection, and so of all streams of it. A stream ends alone by
/// a reset (RFC 9113 section 5.4.2), or because its own request's body broke off.
pub(super) fn ends_connection(error: &hyper::Error) -> bool {
    find::<Fault>(error).is_none() && find::<h2::Error>(error).is_none_or(|error| !error.is_reset())
}

/// What we refused in HTTP/2; what the endpoint refused is a reset.
fn is_protocol_error(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| error.is_library())
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

/// Whether a fault speaks against the endpoint, rather than against the client or the upstream's limits.
pub(super) fn blames_endpoint(fault: &Fault) -> bool {
    fault.kind.describe().blame == Blame::Upstream
        && !matches!(
            fault.kind,
            FaultKind::UpstreamOverloaded
                | FaultKind::NoEndpoint
                | FaultKind::BreakerOpen
                | FaultKind::RequestTimeout
        )
}
