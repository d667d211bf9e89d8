//! Running the checks: a task for each endpoint, on the keeper's thread.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::state::HealthState;
use super::{Why, pause};
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::events::EventKind;

/// Checks under way at once, so that ten thousand endpoints need neither as many descriptors nor a burst of work.
const AT_ONCE: usize = 256;

/// The checks of the snapshot in service.
pub(in crate::upstream) struct Checks {
    /// Which snapshot that is.
    following: Weak<Snapshot>,
    /// By the endpoint's number.
    running: HashMap<u64, Running>,
    slots: Rc<Semaphore>,
}

/// The checks of one endpoint; they end when this is dropped.
struct Running {
    endpoint: Arc<Endpoint>,
    /// The newest version of its upstream.
    upstream: watch::Sender<Arc<Upstream>>,
    task: JoinHandle<()>,
}

impl Default for Checks {
    fn default() -> Self {
        Checks { following: Weak::new(), running: HashMap::new(), slots: Rc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Checks {
    /// Follows a snapshot: endpoints that come are checked, those that stay go on in their rhythm with the new
    /// settings, those that go are left alone.
    pub(in crate::upstream) fn follow(&mut self, snapshot: &Arc<Snapshot>) {
        if std::ptr::eq(self.following.as_ptr(), Arc::as_ptr(snapshot)) {
            return;
        }
        self.following = Arc::downgrade(snapshot);
        let mut before = std::mem::take(&mut self.running);
        for upstream in snapshot.upstreams.values().filter(|upstream| upstream.plan.is_some()) {
            for endpoint in &upstream.endpoints {
                let running = match before.remove(&endpoint.id) {
                    Some(running) => {
                        running.upstream.send_if_modified(|known| {
                            let other = !Arc::ptr_eq(known, upstream);
                            *known = upstream.clone();
                            other
                        });
                        running
                    }
                    None => self.start(endpoint, upstream),
                };
                self.running.insert(endpoint.id, running);
            }
        }
        for running in before.values() {
            running.endpoint.health.forget();
        }
    }

    fn start(&self, endpoint: &Arc<Endpoint>, upstream: &Arc<Upstream>) -> Running {
        let (sender, receiver) = watch::channel(upstream.clone());
        let task = tokio::task::spawn_local(run(endpoint.clone(), receiver, self.slots.clone()));
        Running { endpoint: endpoint.clone(), upstream: sender, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Checks one endpoint again and again. Ends with its [`Running`].
async fn run(endpoint: Arc<Endpoint>, mut newest: watch::Receiver<Arc<Upstream>>, slots: Rc<Semaphore>) {
    loop {
        let Ok(slot) = slots.acquire().await else { return };
        let begun = Instant::now();
        let upstream = newest.borrow_and_update().clone();
        let Some(plan) = &upstream.plan else { return };
        let shown = plan.check(&upstream, &endpoint).await;
        drop(slot);
        drop(upstream);
        // A reload may have come in between: what was found holds, by the thresholds of now.
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

/// Makes known what a check has shown.
fn note(upstream: &Upstream, endpoint: &Arc<Endpoint>, shown: &Result<(), Why>, begun: std::time::Instant) {
    let Some(plan) = &upstream.plan else { return };
    let before = endpoint.health.state();
    match (endpoint.health.note(shown, &plan.settings), shown) {
        (Some(HealthState::Unhealthy), Err(why)) => {
            // Whatever broke the endpoint may have broken the connections that wait, too.
            endpoint.close_idle();
            upstream.events.record(EventKind::Unhealthy, Some(&endpoint.name), why);
        }
        (Some(_), _) if before == HealthState::Unhealthy => {
            upstream.events.record(EventKind::Healthy, Some(&endpoint.name), "its checks succeed");
        }
        _ => {}
    }
    upstream.checked(endpoint, shown.is_ok(), begun);
}
