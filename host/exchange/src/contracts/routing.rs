//! Contract `routing`: where a request goes.

use std::time::Duration;

use bytes::Bytes;

use super::{Answer, Binding, Call, CallResult, Header};

/// A binding that chooses where requests go, within what its grants allow.
pub trait Routing: Binding {
    /// Chooses where the request goes; `None` leaves the earlier choice as it is.
    fn route<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>>;
}

/// The result of `route`.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// An upstream among those that the grants allow.
    pub upstream: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Key for hashing balancers.
    pub hash_key: Option<Bytes>,
    /// The timeout of the whole request. It can only shorten the timeout that is already set.
    pub timeout: Option<Duration>,
    /// Headers for the response.
    pub response_headers: Vec<Header>,
}
