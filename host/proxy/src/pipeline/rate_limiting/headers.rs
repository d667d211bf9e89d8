//! What a client is told about its limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers),
//! structured fields (RFC 9651) with one item a bucket, and `Retry-After` (RFC 9110 section 10.2.3).

use std::fmt::Write;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fault::Fault;
use crate::pipeline::plugin::Bucket;

use super::counter::Standing;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds both fields. Policies are tokens, so they need no escaping as strings.
pub(super) fn write(buckets: &[Bucket], standings: &[Standing], headers: &mut HeaderMap) {
    let mut policies = String::with_capacity(48 * buckets.len());
    let mut limits = String::with_capacity(48 * buckets.len());
    for (bucket, standing) in buckets.iter().zip(standings) {
        let comma = if policies.is_empty() { "" } else { ", " };
        let Bucket { policy, limit, window, .. } = bucket;
        let written = write!(policies, "{comma}\"{policy}\";q={limit}").and_then(|()| {
            // The window is in whole seconds; one that is not cannot be told.
            match (window.as_secs(), window.subsec_nanos()) {
                (seconds, 0) => write!(policies, ";w={seconds}"),
                _ => Ok(()),
            }
        });
        let (remaining, reset) = (standing.remaining, whole_seconds(standing.reset));
        written
            .and_then(|()| write!(limits, "{comma}\"{policy}\";r={remaining};t={reset}"))
            .expect("writing to a string does not fail");
    }
    for (name, text) in [(RATELIMIT_POLICY, policies), (RATELIMIT, limits)] {
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .expect("tokens, digits and punctuation are a header value");
        headers.append(name, value);
    }
}

/// Adds the time to wait, in whole seconds and at least one.
pub(super) fn retry_after(fault: Fault, wait: Duration) -> Fault {
    fault.header(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)))
}

/// Rounded up: whoever waits so long has waited long enough.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
