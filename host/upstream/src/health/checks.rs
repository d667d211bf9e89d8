//! Runs the checks, in a task for each endpoint on the keeper's thread.

use std::rc::Rc;
use std::sync::{Arc, Weak};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use witgate_exchange::names::Numbered;

use super::state::HealthState;
use super::{Why, pause};
use crate::Upstream;
use crate::endpoint::Endpoint;
use crate::observe::events::EventKind;
use crate::set::EndpointSet;

/// The most checks in progress, so that ten thousand endpoints need neither as many file descriptors nor a burst
/// of CPU time.
const AT_ONCE: usize = 256;

/// The slots for checks in progress, which all upstreams share.
pub(crate) fn slots() -> Rc<Semaphore> {
    Rc::new(Semaphore::new(AT_ONCE))
}

/// The checks of one upstream.
pub(crate) struct Checks {
    /// The current version of the upstream.
    newest: watch::Receiver<Arc<Upstream>>,
    /// The set whose endpoints are checked.
    following: Weak<EndpointSet>,
    /// By the number of the endpoint.
    running: Numbered<Running>,
    slots: Rc<Semaphore>,
}

/// The checks of one endpoint. They end when this is dropped.
struct Running {
    endpoint: Arc<Endpoint>,
    task: JoinHandle<()>,
}

impl Checks {
    /// The checks of an upstream. `newest` has its current version.
    pub(crate) fn new(newest: watch::Receiver<Arc<Upstream>>, slots: Rc<Semaphore>) -> Checks {
        Checks { newest, following: Weak::new(), running: Numbered::default(), slots }
    }

    /// Follows the set in service: checks of new endpoints begin, those of endpoints that stay continue in their
    /// intervals with the new settings, and those of endpoints that have left end.
    pub(crate) fn follow(&mut self, upstream: &Upstream) {
        let set = upstream.set.load();
        if std::ptr::eq(self.following.as_ptr(), Arc::as_ptr(&set)) {
            return;
        }
        self.following = Arc::downgrade(&set);
        let mut before = std::mem::take(&mut self.running);
        if upstream.plan.is_some() {
            for endpoint in set.members().map(|member| member.endpoint()) {
                let running = before.remove(&endpoint.id).unwrap_or_else(|| self.start(endpoint));
                self.running.insert(endpoint.id, running);
            }
        }
        for running in before.values() {
            running.endpoint.health.forget();
        }
    }

    fn start(&self, endpoint: &Arc<Endpoint>) -> Running {
        let task = tokio::task::spawn_local(run(endpoint.clone(), self.newest.clone(), self.slots.clone()));
        Running { endpoint: endpoint.clone(), task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Checks one endpoint again and again, until its [`Running`] is dropped.
async fn run(endpoint: Arc<Endpoint>, mut newest: watch::Receiver<Arc<Upstream>>, slots: Rc<Semaphore>) {
    loop {
        let Ok(slot) = slots.acquire().await else { return };
        let begun = Instant::now();
        let upstream = newest.borrow_and_update().clone();
        let Some(plan) = &upstream.plan else { return };
        let shown = plan.check(&upstream, &endpoint).await;
        drop(slot);
        drop(upstream);
        // There may have been a reload during the check. The result counts, by the current thresholds.
        note(&newest.borrow(), &endpoint, &shown, begun.into_std());
        let chance = fastrand::f64();
        loop {
            let due = match &newest.borrow_and_update().plan {
                Some(plan) => begun + pause(&plan.settings, endpoint.health.is_in_doubt(), chance),
                None => return,
            };
            tokio::select! {
                () = sleep_until(due) => break,
                changed = newest.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Records the result of a check.
fn note(upstream: &Upstream, endpoint: &Arc<Endpoint>, shown: &Result<(), Why>, begun: std::time::Instant) {
    let Some(plan) = &upstream.plan else { return };
    let before = endpoint.health.state();
    match (endpoint.health.note(shown, &plan.settings), shown) {
        (Some(HealthState::Unhealthy), Err(why)) => {
            // What broke the endpoint may have broken its idle connections, too.
            endpoint.close_idle();
            upstream.carried.events.record(EventKind::Unhealthy, Some(&endpoint.name), why);
        }
        (Some(_), _) if before == HealthState::Unhealthy => {
            upstream.carried.events.record(EventKind::Healthy, Some(&endpoint.name), "its checks succeed");
        }
        _ => {}
    }
    upstream.checked(endpoint, shown.is_ok(), begun);
}
