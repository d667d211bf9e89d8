//! What binds a request to an endpoint: the hash of its key, and the session it belongs to.

use std::time::SystemTime;

use http::HeaderValue;
use witgate_exchange::head::Scheme;

use super::Upstream;
use super::sticky::Session;
use crate::balancer::Caller;

/// Worked out once for a request, whatever endpoints are tried.
#[derive(Clone, Default)]
pub(super) struct Affinity {
    /// For hash policies.
    pub(super) hash: Option<u64>,
    /// What its sticky cookie says.
    pub(super) session: Option<Session>,
}

impl Upstream {
    /// What binds a request.
    pub(super) fn affinity(&self, caller: &Caller<'_>) -> Affinity {
        let session = self.sticky.as_ref().and_then(|sticky| {
            let set = self.set.load();
            sticky.session(set.sessions.as_ref()?, caller.headers, SystemTime::now())
        });
        Affinity { hash: self.policy.hash(caller), session }
    }

    /// `Set-Cookie` for a client whom an endpoint has answered; none if it may keep what it has.
    pub(super) fn session_cookie(
        &self,
        affinity: &Affinity,
        endpoint: &str,
        scheme: Scheme,
    ) -> Option<HeaderValue> {
        let sticky = self.sticky.as_ref()?;
        let keeps = affinity
            .session
            .as_ref()
            .is_some_and(|session| !session.is_ageing && *session.member.endpoint().name == *endpoint);
        if keeps { None } else { sticky.set_cookie(endpoint, scheme, SystemTime::now()) }
    }
}
