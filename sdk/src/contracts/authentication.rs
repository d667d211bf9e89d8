//! Who is calling?

use std::time::Duration;

use super::milliseconds;
use crate::plugin::{Interest, Plugin};
use crate::request::{Header, Identity, Input, Request};
use crate::response::Response;

pub use crate::bindings::authentication::exports::witgate::plugin::authentication::{Acceptance, Decision};

/// Decides who is calling. Runs first, may not change the request and does not see the body.
pub trait Authentication: Plugin {
    /// The headers it looks at.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// Decides about one request.
    fn authenticate(&self, request: &Request) -> Decision;
}

impl Decision {
    /// Lets the caller in under this name.
    pub fn accept(subject: impl Into<String>) -> Self {
        Identity::new(subject).into()
    }

    /// The credentials are of this plugin's kind and not good: 401 with a challenge such as `Bearer`.
    #[must_use]
    pub fn unauthorized(challenge: &str) -> Self {
        Self::Refused(Response::unauthorized(challenge))
    }

    /// The request carries no credentials of this plugin's kind. If nobody else knows the caller either, and the
    /// route wants one, the challenge goes out with the 401.
    #[must_use]
    pub fn not_mine(challenge: &str) -> Self {
        Self::NotMine(vec![challenge.to_owned()])
    }
}

impl Acceptance {
    /// Adds a header to the response, e.g. `Set-Cookie`.
    #[must_use]
    pub fn with_response_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.response_headers.push(Header::new(name, value));
        self
    }

    /// Lets the gateway reuse the decision for so long, for requests that agree in all inputs that
    /// [`Interest::authenticates_by`] names. If it names none, or the gateway was asked for something else of the request,
    /// the decision is not reused.
    #[must_use]
    pub fn cacheable_for(mut self, duration: Duration) -> Self {
        self.cacheable_for = milliseconds(duration);
        self
    }

    /// Lets the gateway reuse the decision for so long, for requests that agree in all of `inputs`; for a decision that
    /// looked at other inputs than most, else see [`Acceptance::cacheable_for`]. Name everything that was looked at: what
    /// is left out is ignored when the decision is reused. A decision is not reused if the gateway was asked for something
    /// of the request that is not named.
    #[must_use]
    pub fn cacheable(mut self, duration: Duration, inputs: impl Into<Vec<Input>>) -> Self {
        self.inputs = inputs.into();
        self.cacheable_for(duration)
    }
}

impl From<Identity> for Acceptance {
    fn from(identity: Identity) -> Self {
        Self { identity, response_headers: Vec::new(), cacheable_for: 0, inputs: Vec::new() }
    }
}

impl From<Identity> for Decision {
    fn from(identity: Identity) -> Self {
        Self::Accepted(identity.into())
    }
}

impl From<Acceptance> for Decision {
    fn from(acceptance: Acceptance) -> Self {
        Self::Accepted(acceptance)
    }
}

impl From<Response> for Decision {
    fn from(refusal: Response) -> Self {
        Self::Refused(refusal)
    }
}

/// Lets a plugin use `?`: both sides become the decision.
impl<T: Into<Self>, E: Into<Self>> From<Result<T, E>> for Decision {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}
