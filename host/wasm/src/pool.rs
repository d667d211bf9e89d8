//! The instances of one binding: a pool for each core, each instance leased for one call.
//!
//! A call that does not wait keeps its core busy from lease to release, so it needs one instance for each core;
//! only calls that wait in `fetch` hold several. The lock of a core's pool is taken by that core, by the upkeep
//! thread, and by readers of the metrics, each time for a few instructions.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use witgate_config::model::{Instances, Reuse};
use witgate_exchange::contracts::CallFailure;

use crate::background::is_background;
use crate::budget::cpu_clock;
use crate::call::failure_of;
use crate::instance::{Instance, Template};
use crate::load::SETUP;
use crate::rights::Rights;
use crate::upkeep::Upkeep;

/// The instances of one version of one binding.
pub(crate) struct Pool {
    template: Arc<Template>,
    rights: Arc<Rights>,
    setup: Setup,
    limits: Instances,
    /// One for each core; for a binding that is also called in the background, one more for that at the end.
    cores: Box<[Core]>,
    background: bool,
    upkeep: Upkeep,
}

/// How instances are set up.
pub(crate) struct Setup {
    /// Settings for `configure`, as JSON text.
    pub(crate) settings: String,
    /// Whether the set-up is so fast that a call may do it. Otherwise calls wait for the upkeep thread.
    pub(crate) quick: bool,
}

/// The pool of one core, on cache lines of its own so that cores do not share one.
#[repr(align(128))]
#[derive(Default)]
struct Core(Mutex<PoolState>);

#[derive(Default)]
struct PoolState {
    #[expect(clippy::vec_box, reason = "every call moves one out and back, several times")]
    idle: Vec<Box<Instance>>,
    /// Number of instances: idle, leased, and being made.
    live: usize,
    waiting: VecDeque<oneshot::Sender<Handover>>,
    /// Whether a refill has been requested from the upkeep thread.
    refilling: bool,
    /// Why the last refill made no instance. Reported to one of the calls that waited for it.
    unmade: Option<NoInstance>,
}

/// Why there is no instance for a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoInstance {
    /// The failure of the call.
    pub(crate) failure: CallFailure,
    /// CPU time that the attempt to make an instance used.
    pub(crate) burnt: Duration,
}

impl NoInstance {
    /// No instance is idle, and no more may be made.
    const QUEUE: NoInstance = NoInstance { failure: CallFailure::Queue, burnt: Duration::ZERO };
}

/// An instance for the length of one call. If the lease is dropped during a call, the instance is dropped, too.
pub(crate) struct Lease<'p> {
    pool: &'p Arc<Pool>,
    core: usize,
    /// `None`: the holder has to make an instance.
    instance: Option<Box<Instance>>,
    calling: bool,
}

/// An instance, or the permission to make one, on its way to a waiting call. If that call is gone, it returns to
/// the pool.
struct Handover {
    pool: Arc<Pool>,
    core: usize,
    /// `None`: it has been delivered.
    content: Option<Option<Box<Instance>>>,
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(instance) = self.content.take() {
            self.pool.give_back(self.core, instance);
        }
    }
}

impl Pool {
    pub(crate) fn new(
        template: Arc<Template>,
        rights: Arc<Rights>,
        setup: Setup,
        limits: Instances,
        cores: usize,
        background: bool,
        upkeep: Upkeep,
    ) -> Self {
        let cores = (0..cores.max(1) + usize::from(background)).map(|_| Core::default()).collect();
        Pool { template, rights, setup, limits, cores, background, upkeep }
    }

    /// The rights that the instances share.
    pub(crate) fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    /// Whether calls may wait.
    pub(crate) fn waits(&self) -> bool {
        self.template.waits
    }

    /// An idle instance, for one call that does not wait.
    pub(crate) fn at_hand<'p>(self: &'p Arc<Self>) -> Option<Lease<'p>> {
        if self.waits() {
            return None;
        }
        let core = self.this_core();
        let instance = self.held(core).idle.pop()?;
        Some(self.lease_of(core, Some(instance)))
    }

    /// An instance for one call: an idle one, a new one, or the next one that is released.
    ///
    /// # Errors
    /// `Queue` if none is released in time or the queue is full; otherwise the reason why a new one could not be
    /// made.
    pub(crate) async fn lease<'p>(self: &'p Arc<Self>) -> Result<Lease<'p>, NoInstance> {
        let core = self.this_core();
        let waiting = {
            let mut held = self.held(core);
            if let Some(instance) = held.idle.pop() {
                return Ok(self.lease_of(core, Some(instance)));
            }
            if held.live < self.limits.max && self.setup.quick {
                held.live += 1;
                None
            } else {
                Some(held.wait(self.limits.queue).ok_or(NoInstance::QUEUE)?)
            }
        };
        let instance = match waiting {
            None => None,
            Some(receiver) => {
                self.refill(core);
                let given = tokio::time::timeout(self.limits.queue_timeout, receiver).await;
                let handover = given.ok().and_then(Result::ok);
                let instance = handover.and_then(|mut handover| handover.content.take());
                instance.ok_or_else(|| self.held(core).unmade.take().unwrap_or(NoInstance::QUEUE))?
            }
        };
        self.lease_of(core, instance).filled()
    }

    /// Makes and configures an instance.
    fn make(&self, time: Duration) -> Result<Box<Instance>, NoInstance> {
        let clock = cpu_clock();
        match self.try_to_make(time) {
            Ok(instance) => {
                self.rights.meter.made();
                self.rights.meter.memory(instance.store.data().space.memory());
                Ok(Box::new(instance))
            }
            Err(failure) => Err(NoInstance { failure, burnt: cpu_clock().saturating_sub(clock) }),
        }
    }

    fn try_to_make(&self, time: Duration) -> Result<Instance, CallFailure> {
        let failed = |error| match failure_of(&error) {
            // There is no room for another instance, which is not the plugin's fault.
            CallFailure::Output => CallFailure::Unavailable,
            failure => failure,
        };
        let mut instance = self.template.instantiate(&self.rights, time).map_err(failed)?;
        let answer = self.template.configure(&mut instance, &self.setup.settings, time).map_err(failed)?;
        // The settings are refused here although another instance accepted them.
        answer.map_err(|_| CallFailure::Output)?;
        Ok(instance)
    }

    /// Adds an instance that was made elsewhere to a core's pool.
    pub(crate) fn add(self: &Arc<Self>, core: usize, instance: Instance) {
        self.held(core).live += 1;
        self.rights.meter.made();
        self.give_back(core, Some(Box::new(instance)));
    }

    /// Makes instances until a core has its idle ones. Slow; never called on the data path.
    pub(crate) fn fill(self: &Arc<Self>, core: usize) {
        loop {
            {
                let mut held = self.held(core);
                held.refilling = false;
                if !self.wants(&held) {
                    return;
                }
                held.live += 1;
            }
            let made = self.make(SETUP);
            let failed = made.as_ref().err().copied();
            if failed.is_some() {
                self.held(core).unmade = failed;
            }
            self.give_back(core, made.ok());
            if failed.is_some() {
                // The failure is counted by a call that waited for the instance.
                return;
            }
        }
    }

    /// The index of the calling thread's core.
    pub(crate) fn this_core(&self) -> usize {
        match (self.background, is_background()) {
            (true, true) => self.cores.len() - 1,
            (background, _) => this_core(self.cores.len() - usize::from(background)),
        }
    }

    /// Number of cores, including the one that stands for calls in the background.
    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }

    fn held(&self, core: usize) -> MutexGuard<'_, PoolState> {
        self.cores[core].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease_of(self: &Arc<Self>, core: usize, instance: Option<Box<Instance>>) -> Lease<'_> {
        Lease { pool: self, core, instance, calling: false }
    }

    /// Gives an instance, or the slot of one that is gone, to the call that has waited longest.
    fn give_back(self: &Arc<Self>, core: usize, mut instance: Option<Box<Instance>>) {
        if let Some(instance) = &mut instance
            && let Some(instructions) = self.template.executed(instance)
        {
            self.rights.meter.executed(instructions);
        }
        let mut held = self.held(core);
        while let Some(sender) = held.waiting.pop_front() {
            let handover = Handover { pool: Arc::clone(self), core, content: Some(instance) };
            match sender.send(handover) {
                Ok(()) => return,
                // The waiting call has gone, so the next one gets it. An emptied handover does nothing when it is
                // dropped.
                Err(mut handover) => instance = handover.content.take().flatten(),
            }
        }
        match instance {
            Some(instance) => held.idle.push(instance),
            None => held.live -= 1,
        }
    }

    /// Requests a refill from the upkeep thread, if the core has too few instances.
    fn refill(self: &Arc<Self>, core: usize) {
        let mut held = self.held(core);
        let wanted = !held.refilling && self.wants(&held);
        held.refilling |= wanted;
        drop(held);
        if wanted && !self.upkeep.refill(self, core) {
            self.held(core).refilling = false;
        }
    }

    /// Whether a core has fewer instances than it should.
    fn wants(&self, held: &PoolState) -> bool {
        let needed = !held.waiting.is_empty() || held.idle.len() < self.limits.min_idle;
        needed && held.live < self.limits.max
    }
}

/// The instances of a retired pool are dropped by the upkeep thread, wherever the last handle is dropped.
impl Drop for Pool {
    fn drop(&mut self) {
        let idle: Vec<Box<Instance>> = self
            .cores
            .iter_mut()
            .flat_map(|held| {
                std::mem::take(&mut held.0.get_mut().unwrap_or_else(PoisonError::into_inner).idle)
            })
            .collect();
        self.rights.meter.gone(idle.len());
        self.upkeep.discard((idle, Arc::clone(&self.template)));
    }
}

impl PoolState {
    /// Adds a waiter to the queue, if there is room.
    fn wait(&mut self, limit: usize) -> Option<oneshot::Receiver<Handover>> {
        if self.waiting.len() >= limit {
            // Waiters whose time was up are still in the queue.
            self.waiting.retain(|sender| !sender.is_closed());
        }
        (self.waiting.len() < limit).then(|| {
            let (sender, receiver) = oneshot::channel();
            self.waiting.push_back(sender);
            receiver
        })
    }
}

impl Lease<'_> {
    /// The same lease with an instance in it.
    fn filled(mut self) -> Result<Self, NoInstance> {
        if self.instance.is_none() {
            self.instance = Some(self.pool.make(self.pool.rights.budget.cpu)?);
        }
        Ok(self)
    }

    /// The instance, for a call that begins now.
    ///
    /// # Errors
    /// `Unavailable` if there is none, which cannot happen after [`Pool::lease`].
    pub(crate) fn call(&mut self) -> Result<&mut Instance, CallFailure> {
        self.calling = true;
        self.instance.as_deref_mut().ok_or(CallFailure::Unavailable)
    }

    /// Ends the lease after a call. The instance is kept if it is intact and may be used again.
    pub(crate) fn end(mut self, sound: bool) {
        let limits = &self.pool.limits;
        if let Some(instance) = &mut self.instance {
            instance.uses += 1;
            let again = sound && limits.reuse == Reuse::Serial && instance.uses < limits.max_uses;
            self.calling = !again;
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let (pool, core, instance) = (self.pool, self.core, self.instance.take());
        if !self.calling {
            pool.give_back(core, instance);
            return;
        }
        if let Some(mut instance) = instance {
            // The store is dropped later. The request is released now, so that changing it does not need a copy.
            instance.store.data_mut().end();
            pool.rights.meter.gone(1);
            pool.upkeep.discard(instance);
        }
        if pool.setup.quick {
            pool.give_back(core, None);
        } else {
            pool.held(core).live -= 1;
        }
        pool.refill(core);
    }
}

/// The index of this thread's core: each thread takes the next one at its first call.
fn this_core(cores: usize) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let index = INDEX.with(|index| match index.get() {
        Some(index) => index,
        None => {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            index.set(Some(next));
            next
        }
    });
    index % cores
}
