//! The headers that tell a client about its limits: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers), structured fields (RFC 9651) with one item for each bucket, and
//! `Retry-After` (RFC 9110 section 10.2.3).

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use witgate_exchange::contracts::Bucket;
use witgate_exchange::contracts::counter::BucketState;
use witgate_exchange::fault::Fault;

use witgate_wire::http1::write::decimal;

use super::Draws;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The item of `RateLimit-Policy` for one bucket. Names of policies are tokens, so they need no escaping in
/// strings.
pub(super) fn policy(Bucket { policy, limit, window, .. }: &Bucket) -> String {
    let mut text = format!("\"{policy}\";q={limit}");
    // The field has whole seconds, so a window that is not a whole number of seconds is left out.
    if window.subsec_nanos() == 0 {
        write!(text, ";w={}", window.as_secs()).expect("writing to a string does not fail");
    }
    text
}

/// Adds both fields.
pub(super) fn write(draws: &Draws, states: &[BucketState], headers: &mut Vec<(HeaderName, HeaderValue)>) {
    let mut limits = Vec::with_capacity(48 * states.len());
    for (policy, state) in draws.policies.iter().zip(states) {
        if !limits.is_empty() {
            limits.extend_from_slice(b", ");
        }
        limits.push(b'"');
        limits.extend_from_slice(policy.as_bytes());
        limits.extend_from_slice(b"\";r=");
        decimal(&mut limits, u64::from(state.remaining));
        limits.extend_from_slice(b";t=");
        decimal(&mut limits, whole_seconds(state.reset));
    }
    headers.push((RATELIMIT_POLICY, draws.told.clone()));
    headers.push((RATELIMIT, field(limits)));
}

/// A field value that consists of tokens, digits and punctuation.
pub(super) fn field(text: impl Into<Bytes>) -> HeaderValue {
    HeaderValue::from_maybe_shared(text.into()).expect("tokens, digits and punctuation are a header value")
}

/// Adds `Retry-After`, in whole seconds and at least one.
pub(super) fn retry_after(fault: Fault, wait: Duration) -> Fault {
    fault.header(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)))
}

/// The time in seconds, rounded up so that a client never comes back too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
