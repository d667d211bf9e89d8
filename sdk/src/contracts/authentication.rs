//! The contract `authentication`: who is calling.

use std::time::Duration;

use super::milliseconds;
use crate::checked::{self, Direction};
use crate::plugin::{Interest, Plugin};
use crate::request::{Header, Identity, Input, Request};
use crate::response::Response;

pub use crate::bindings::authentication::exports::witgate::plugin::authentication::{Acceptance, Decision};

/// Decides who is calling. Runs before the other contracts; cannot change the request or read its body.
pub trait Authentication: Plugin {
    /// The headers that the plugin reads.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// Decides about one request.
    fn authenticate(&self, request: &Request) -> Decision;
}

impl Decision {
    /// Accepts the caller under this subject.
    pub fn accept(subject: impl Into<String>) -> Self {
        Identity::new(subject).into()
    }

    /// Refuses credentials of this plugin's kind that are not valid: 401 with a challenge such as `Bearer`.
    #[must_use]
    pub fn unauthorized(challenge: &str) -> Self {
        Self::Refused(Response::unauthorized(challenge))
    }

    /// The request carries no credentials of this plugin's kind. If no other plugin accepts the caller either, and
    /// the route requires authentication, the challenge is sent with the 401.
    #[must_use]
    pub fn not_mine(challenge: &str) -> Self {
        Self::NotMine(vec![challenge.to_owned()])
    }
}

impl Acceptance {
    /// Adds a header to the response, e.g. `Set-Cookie`.
    #[must_use]
    #[track_caller]
    pub fn with_response_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let header = Header::new(name, value);
        checked::header(&header.name, &header.value, Direction::Response);
        self.response_headers.push(header);
        self
    }

    /// Lets the gateway remember the decision for `duration`, for requests that agree in all inputs that
    /// [`Interest::authenticates_by`] names. If it names none, or the call read anything else of the request, the
    /// decision is not remembered.
    #[must_use]
    pub fn cacheable_for(mut self, duration: Duration) -> Self {
        self.cacheable_for = milliseconds(duration);
        self
    }

    /// Lets the gateway remember the decision for `duration`, for requests that agree in all of `inputs`. Use it
    /// for a decision that depends on other inputs than most; otherwise use [`Acceptance::cacheable_for`]. Name
    /// every input that the call has read: the gateway does not compare any other. A decision is not remembered if
    /// the call read a part of the request that is not named.
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

/// Makes `?` usable in a plugin: both the value and the error convert into the decision.
impl<T: Into<Self>, E: Into<Self>> From<Result<T, E>> for Decision {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}
