//! Revalidation in the background, while the stale response is used (RFC 5861 section 3).

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use http::header::{
    AUTHORIZATION, COOKIE, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, PROXY_AUTHORIZATION, RANGE,
};
use witgate_exchange::facts::Facts;

use crate::ask::Ask;
use crate::collapsing::Role;
use crate::destination::{Cached, Miss};
use crate::entry::Entry;
use crate::fetch::{Fetch, LONGEST_REFRESH};
use crate::key::Rights;

/// Ends the refresh of a response, whatever becomes of it.
struct Refreshing(Arc<Entry>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.end_refresh();
    }
}

impl Cached {
    /// Whether a response may be revalidated in the background for this request: without the caller's identity and
    /// credentials it must be the same request.
    pub(crate) fn may_refresh(&self, ask: &Ask) -> bool {
        let head = &ask.head;
        ask.rights != Rights::Shared && head.identity.is_none() && head.client.certificate.is_none()
    }

    /// Revalidates a response in the background, unless that is already being done.
    pub(crate) fn refresh(&self, facts: &Facts, ask: &Ask, entry: &Arc<Entry>) {
        if !entry.begin_refresh() {
            return;
        }
        let refreshing = Refreshing(Arc::clone(entry));
        let mut head = (*ask.head).clone();
        for name in
            [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE]
        {
            head.headers.remove(name);
        }
        (head.method, head.upstream_method) = (Method::GET, None);
        let head = Arc::new(head);
        let ask = Box::new(ask.in_background(Arc::clone(&head)));
        let mut background = Facts::new(head, facts.version, Instant::now());
        background.trusted_peer = facts.trusted_peer;
        background.upstream = facts.upstream.clone();
        background.hash_key = facts.hash_key.clone();
        background.limit_time(facts.timeout);
        background.limit_time(Some(LONGEST_REFRESH));
        let cached = self.clone();
        tokio::task::spawn_local(async move {
            let refreshing = refreshing;
            let leader = match cached.join(&ask) {
                Role::Leader(leader) => Some(leader),
                // Somebody validates it already.
                Role::Wait(_) => return,
            };
            let missed = Miss { entry: Some(Arc::clone(&refreshing.0)), why: "stale" };
            // The body is stored by a task of its own.
            drop(cached.fetch(&mut background, Fetch::new(ask, missed, leader)).await);
        });
    }
}
