//! Work for upstreams that belongs to no request. It runs on one thread of the process, so that it does not depend
//! on the number of cores, and is not delayed by a busy core.
//!
//! | work | when |
//! |---|---|
//! | puts sets of sources in service | after a source has reported one, at most once a second |
//! | builds hash tables | when endpoints or their states change, at most once a second |
//! | builds the view of who takes requests | at each event: of a breaker, a check, an ejection, an operator |
//! | half-opens breakers, ends ejections, raises weights in slow start, ends load shedding | at the time at which it is due |
//! | compares success rates | once in an interval, if that is configured |
//! | active checks | in their intervals ([`checks`]) |
//! | looks up host names of endpoints | when their addresses are no longer valid ([`resolve`](crate::connection::resolve)) |
//! | logs events | when they happen |
//!
//! Each upstream has a task. It sleeps until an event of the upstream ([`Events`]), until another version of the
//! upstream is in service, or until the next of these times. If nothing happens and nothing is due, it does not
//! wake.
//!
//! [`checks`]: super::health::checks
//! [`Events`]: crate::observe::events::Events

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::{sleep, sleep_until};
use witgate_telemetry::Telemetry;

use super::discovery::run::RunningSource;
use super::discovery::save::Saving;
use super::discovery::sink::PendingSet;
use super::health::checks::{self, Checks};
use super::set::TableMaking;
use super::{BreakerState, CurrentUpstreams, Upstream};
use crate::balancer::clock;
use crate::connection::resolve::LookUps;

/// The shortest time between two rounds of an upstream. A round reads the states of all its endpoints, so many
/// events at once are handled by one round.
const ROUND: Duration = Duration::from_millis(50);

/// Added to times of breakers and shedding, which are rounded to milliseconds, so that they are over at the
/// wake-up.
const ROUNDING: Duration = Duration::from_millis(1);

/// The running keeper. Dropping it ends its thread.
pub struct Keeper {
    swapped: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the keeper. [`Keeper::follow`] has to be called after each swap of the snapshot.
    ///
    /// # Errors
    /// The system gives no thread, or no epoll descriptor.
    pub fn start(upstreams: Arc<dyn CurrentUpstreams>, telemetry: Arc<Telemetry>) -> io::Result<Keeper> {
        Keeper::start_counting(upstreams, telemetry, Arc::default())
    }

    /// Starts the keeper, and counts the rounds of all upstreams in `rounds`.
    pub(crate) fn start_counting(
        upstreams: Arc<dyn CurrentUpstreams>,
        telemetry: Arc<Telemetry>,
        rounds: Arc<AtomicU64>,
    ) -> io::Result<Keeper> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let swapped = Arc::<Notify>::default();
        let context = KeeperContext { swapped: swapped.clone(), rounds, telemetry, upstreams };
        let thread = std::thread::Builder::new().name("witgate-keeper".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = keep(context) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Keeper { swapped, stop: Some(stop), thread: Some(thread) })
    }

    /// Has the keeper follow the snapshot that is in service now.
    pub fn follow(&self) {
        self.swapped.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It never panics on purpose; if it did, the log has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the keeper needs for its work.
struct KeeperContext {
    swapped: Arc<Notify>,
    rounds: Arc<AtomicU64>,
    telemetry: Arc<Telemetry>,
    upstreams: Arc<dyn CurrentUpstreams>,
}

/// The task of one upstream. Dropping it ends the task.
struct Task {
    newest: watch::Sender<Arc<Upstream>>,
    handle: tokio::task::JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

async fn keep(context: KeeperContext) {
    let slots = checks::slots();
    let mut tasks: HashMap<Arc<str>, Task> = HashMap::new();
    loop {
        // Released before the keeper sleeps, so that a retired snapshot can be dropped.
        let upstreams = context.upstreams.current();
        tasks.retain(|name, _| upstreams.contains_key(name));
        for (name, upstream) in upstreams.iter() {
            match tasks.get(name) {
                Some(task) => {
                    _ = task.newest.send_if_modified(|newest| {
                        let other = !Arc::ptr_eq(newest, upstream);
                        *newest = upstream.clone();
                        other
                    })
                }
                None => _ = tasks.insert(name.clone(), start(upstream, &context, &slots)),
            }
        }
        drop(upstreams);
        context.swapped.notified().await;
    }
}

fn start(upstream: &Arc<Upstream>, context: &KeeperContext, slots: &Rc<Semaphore>) -> Task {
    let (newest, receiver) = watch::channel(upstream.clone());
    let (telemetry, rounds) = (context.telemetry.clone(), context.rounds.clone());
    let handle = tokio::task::spawn_local(keep_one(receiver, telemetry, rounds, slots.clone()));
    Task { newest, handle }
}

/// Does the work for one upstream, through all its versions.
async fn keep_one(
    mut newest: watch::Receiver<Arc<Upstream>>,
    telemetry: Arc<Telemetry>,
    rounds: Arc<AtomicU64>,
    slots: Rc<Semaphore>,
) {
    let discovery = newest.borrow().discovery.clone();
    let mut checks = Checks::new(newest.clone(), slots);
    let mut look_ups = LookUps::new(discovery.resolver.clone());
    let mut own = discovery.own.watch();
    let mut saving = Saving::default();
    let mut source = None;
    loop {
        let upstream = newest.borrow_and_update().clone();
        if let Some(built) = upstream.take_source() {
            let knows_its_set = built.kind.is_none();
            let (limits, restored) = (built.limits.clone(), built.restored.clone());
            let sink = upstream.carried.sink.begin(built.kind, limits, knows_its_set, restored);
            source = Some(RunningSource::start(built, sink));
        }
        look_ups.follow(&upstream);
        let due = upstream.round(&mut checks).into_iter().chain(saving.follow(&upstream)).min();
        log_events(&upstream, &telemetry);
        rounds.fetch_add(1, Ordering::Relaxed);
        let carried = upstream.carried.clone();
        drop(upstream);
        sleep(ROUND).await;
        tokio::select! {
            () = carried.events.happened() => {}
            () = until(due) => {}
            // Cannot fail: `discovery` holds the sender.
            _ = own.changed() => carried.sink.withdraw(),
            changed = newest.changed() => if changed.is_err() {
                drop(source);
                return;
            },
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Upstream {
    /// Does everything that is due, and returns when something is due next.
    fn round(&self, checks: &mut Checks) -> Option<Instant> {
        let serve_at = match self.carried.sink.pending(self.version_in_service(), tokio::time::Instant::now())
        {
            PendingSet::None => None,
            PendingSet::At(due) => Some(due.into_std()),
            PendingSet::Set(spec, version) => {
                self.put_in_service(&spec, version, clock::now());
                None
            }
        };
        let (stale, stale_at) = self.carried.sink.staleness();
        self.distrust(stale);
        checks.follow(self);
        self.review_ejections(Instant::now());
        self.refresh(clock::now(), TableMaking::Paced);
        self.note_calm();
        let due = self.due(Instant::now(), clock::now());
        due.into_iter().chain(serve_at).chain(stale_at.map(tokio::time::Instant::into_std)).min()
    }

    /// The next time at which something changes without an event.
    fn due(&self, now: Instant, balancing_now: Duration) -> Option<Instant> {
        let set = self.set.load();
        let slow_start = self.config.slow_start.as_ref();
        let at = |balancing: Duration| now + balancing.saturating_sub(balancing_now);
        let of_members = set.members().flat_map(|member| {
            let endpoint = member.endpoint();
            let rests = endpoint.breaker.state() == BreakerState::Open;
            [
                rests.then(|| now + endpoint.breaker.rests_for() + ROUNDING),
                endpoint.ejection.due(&self.config.ejection),
                endpoint.newness.next_step(slow_start, balancing_now).map(at),
            ]
        });
        let of_all = [
            self.comparison_due(),
            self.tables_due().map(at),
            self.carried.admissions.shedding.calm_in().map(|calm| now + calm + ROUNDING),
        ];
        of_members.chain(of_all).flatten().min()
    }
}

fn log_events(upstream: &Upstream, telemetry: &Telemetry) {
    for event in upstream.carried.events.say() {
        let endpoint = event.endpoint.as_deref().unwrap_or("-");
        telemetry.log(
            event.kind.level(),
            "an upstream has changed",
            &[
                ("upstream", &upstream.name),
                ("endpoint", &endpoint),
                ("event", &event.kind.as_str()),
                ("why", &event.why),
            ],
        );
    }
}

#[cfg(test)]
mod tests;
