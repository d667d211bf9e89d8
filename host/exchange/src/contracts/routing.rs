//! Contract `routing`: where a request goes.

use std::time::Duration;

use bytes::Bytes;

use super::{Answer, Binding, Call, CallResult, Header};

/// A binding that chooses where requests go, within what its grants allow.
pub trait Routing: Binding {
    /// Chooses; none leaves the choice as it is.
    fn route<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>>;
}

/// Answer of `route`.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// A granted upstream.
    pub upstream: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Key for hashing balancers.
    pub hash_key: Option<Bytes>,
    /// Time for the whole request.
    pub timeout: Option<Duration>,
    /// Headers for the response.
    pub response_headers: Vec<Header>,
}
