//! What binds a request to an endpoint: the hash of its key, and the session it belongs to.

use std::time::SystemTime;

use http::HeaderValue;

use super::Upstream;
use super::sticky::Session;
use crate::balancer::Caller;
use crate::head::Scheme;

/// Worked out once for a request, whatever endpoints are tried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Affinity {
    /// For hash policies.
    pub(super) hash: Option<u64>,
    /// What its sticky cookie says.
    pub(super) session: Option<Session>,
}

impl Upstream {
    /// What binds a request.
    pub(super) fn affinity(&self, caller: &Caller<'_>) -> Affinity {
        let sticky = self.sticky.as_ref();
        Affinity {
            hash: self.policy.hash(caller),
            session: sticky.and_then(|sticky| sticky.session(caller.headers, SystemTime::now())),
        }
    }

    /// `Set-Cookie` for a client whom an endpoint has answered; none if it may keep what it has.
    pub(super) fn session_cookie(
        &self,
        affinity: Affinity,
        endpoint: &str,
        scheme: Scheme,
    ) -> Option<HeaderValue> {
        let sticky = self.sticky.as_ref()?;
        let keeps = affinity
            .session
            .is_some_and(|session| !session.is_ageing && *self.endpoints[session.endpoint].name == *endpoint);
        if keeps { None } else { sticky.set_cookie(endpoint, scheme, SystemTime::now()) }
    }
}
