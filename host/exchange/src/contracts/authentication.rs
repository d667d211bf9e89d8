//! Contract `authentication`: who the caller is.

use std::time::Duration;

use super::{Binding, Call, CallResult, Header, Input, LocalResponse};

/// A binding that finds out who the caller is.
pub trait Authentication: Binding {
    /// Finds out who the caller is. If the decision will not be remembered (`remember` is false), an acceptance
    /// need not name its inputs.
    fn authenticate<'a>(&'a self, call: Call<'a>, remember: bool) -> CallResult<'a, Decision>;
}

/// The result of `authenticate`.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The caller is known.
    Accepted(Acceptance),
    /// The credentials are invalid.
    Refused(LocalResponse),
    /// The request has no credentials of this kind. The challenges are for a response with status 401.
    NotMine(Vec<String>),
}

/// A recognised caller.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The principal.
    pub subject: String,
    /// What is known about the caller, as names and values.
    pub claims: Vec<(String, String)>,
    /// Headers for the response.
    pub response_headers: Vec<Header>,
    /// How long the decision may be remembered; zero forbids it.
    pub cacheable_for: Duration,
    /// The inputs of the decision. If there are none, or more than [`INPUTS`](super::INPUTS), it is not
    /// remembered.
    pub inputs: Vec<Input>,
}
