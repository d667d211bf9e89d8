//! Contract `authentication`: who calls.

use std::time::Duration;

use super::{Binding, Call, CallResult, Header, Input, LocalResponse};

/// A binding that finds out who calls.
pub trait Authentication: Binding {
    /// Says who calls. Where the answer is not to be remembered (`remember` is false), an acceptance need not name its
    /// inputs.
    fn authenticate<'a>(&'a self, call: Call<'a>, remember: bool) -> CallResult<'a, Decision>;
}

/// Answer of `authenticate`.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The caller is known.
    Accepted(Acceptance),
    /// The credentials are not good.
    Refused(LocalResponse),
    /// No credentials of this kind; challenges for a 401.
    NotMine(Vec<String>),
}

/// A recognised caller.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The principal.
    pub subject: String,
    /// Facts about it.
    pub claims: Vec<(String, String)>,
    /// Headers for the response.
    pub response_headers: Vec<Header>,
    /// How long the decision may be remembered; zero: never.
    pub cacheable_for: Duration,
    /// What the decision looked at; empty, or more than [`INPUTS`](super::INPUTS): not to be remembered.
    pub inputs: Vec<Input>,
}
