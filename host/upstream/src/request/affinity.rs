//! The affinity of a request to an endpoint: the hash of its key, and its session.

use std::time::SystemTime;

use http::HeaderValue;
use witgate_exchange::head::Scheme;

use super::sticky::Session;
use crate::Upstream;
use crate::balancer::Caller;

/// The affinity of a request. Computed once, whichever endpoints are tried.
#[derive(Clone, Default)]
pub(crate) struct Affinity {
    /// The hash of its key, for policies that use one.
    pub(crate) hash: Option<u64>,
    /// The session of its sticky cookie.
    pub(crate) session: Option<Session>,
}

impl Upstream {
    /// Computes the affinity of a request.
    pub(crate) fn affinity(&self, caller: &Caller<'_>) -> Affinity {
        let session = self.sticky.as_ref().and_then(|sticky| {
            let set = self.set.load();
            sticky.session(set.sessions.as_ref()?, caller.headers, SystemTime::now())
        });
        Affinity { hash: self.policy.hash(caller), session }
    }

    /// `Set-Cookie` for a client that got a response from an endpoint. `None` if the client may keep its cookie.
    pub(crate) fn session_cookie(
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
