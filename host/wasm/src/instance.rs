//! One instance: its store, its exports, and how it is made.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, InstancePre, Lift, Linker, TypedFunc};
use witgate_config::model::Budget;
use witgate_exchange::contracts::Contracts;

use crate::bindings::draft::exports::witgate::plugin0_2_0::{
    authentication_by_body, gate, observe, refusal_by_body, routing_by_body, tick,
};
use crate::bindings::exports::witgate::plugin::{
    authentication, lifecycle, rate_limiting, routing, transformation,
};
use crate::budget::{FIRST_LOOK, Stopwatch};
use crate::compile::Compiled;
use crate::engine::Engine;
use crate::imports::mailbox::Mailbox;
use crate::imports::store::VALUE;
use crate::rights::Rights;
use crate::state::HostState;

/// One live instance of a plugin. A trap ends it.
pub(crate) struct Instance {
    /// Memory, tables and the host's data.
    pub(crate) store: Store<HostState>,
    /// The functions that can be called.
    pub(crate) exports: Exports,
    /// Measures the time of its calls; the caller starts it.
    pub(crate) stopwatch: Stopwatch,
    /// Where the guest leaves what it waits for.
    pub(crate) mailbox: Mailbox,
    /// Number of calls that have returned a result.
    pub(crate) uses: u64,
}

/// The functions of the contracts a component exports.
pub(crate) struct Exports {
    pub(crate) lifecycle: lifecycle::Guest,
    pub(crate) gate: Option<gate::Guest>,
    pub(crate) authentication: Option<authentication::Guest>,
    pub(crate) authentication_by_body: Option<authentication_by_body::Guest>,
    pub(crate) rate_limiting: Option<rate_limiting::Guest>,
    pub(crate) refusal_by_body: Option<refusal_by_body::Guest>,
    pub(crate) routing: Option<routing::Guest>,
    pub(crate) routing_by_body: Option<routing_by_body::Guest>,
    pub(crate) transformation: Option<transformation::Guest>,
    pub(crate) observe: Option<observe::Guest>,
    pub(crate) tick: Option<tick::Guest>,
}

/// Everything that an instance is made from, linked and type-checked.
pub(crate) struct Template {
    linked: InstancePre<HostState>,
    indices: Indices,
    engine: Arc<Engine>,
    /// Marks the code as being in use for the compiler.
    _code: Arc<Compiled>,
    /// Whether the component imports a function that waits.
    pub(crate) waits: bool,
}

/// Indices of the exported functions, looked up once.
struct Indices {
    lifecycle: lifecycle::GuestIndices,
    gate: Option<gate::GuestIndices>,
    authentication: Option<authentication::GuestIndices>,
    authentication_by_body: Option<authentication_by_body::GuestIndices>,
    rate_limiting: Option<rate_limiting::GuestIndices>,
    refusal_by_body: Option<refusal_by_body::GuestIndices>,
    routing: Option<routing::GuestIndices>,
    routing_by_body: Option<routing_by_body::GuestIndices>,
    transformation: Option<transformation::GuestIndices>,
    observe: Option<observe::GuestIndices>,
    tick: Option<tick::GuestIndices>,
}

impl Template {
    /// Links a component and looks up its contracts.
    ///
    /// # Errors
    /// The type of an import or export differs from the contract.
    pub(crate) fn new(
        engine: Arc<Engine>,
        linker: &Linker<HostState>,
        code: &Arc<Compiled>,
        contracts: Contracts,
        waits: bool,
    ) -> wasmtime::Result<Self> {
        let linked = linker.instantiate_pre(&code.0)?;
        let indices = Indices {
            lifecycle: lifecycle::GuestIndices::new(&linked)?,
            gate: present(contracts.gate, || gate::GuestIndices::new(&linked))?,
            authentication: present(contracts.authentication, || authentication::GuestIndices::new(&linked))?,
            authentication_by_body: present(contracts.authentication_by_body, || {
                authentication_by_body::GuestIndices::new(&linked)
            })?,
            rate_limiting: present(contracts.rate_limiting, || rate_limiting::GuestIndices::new(&linked))?,
            refusal_by_body: present(contracts.refusal_by_body, || {
                refusal_by_body::GuestIndices::new(&linked)
            })?,
            routing: present(contracts.routing, || routing::GuestIndices::new(&linked))?,
            routing_by_body: present(contracts.routing_by_body, || {
                routing_by_body::GuestIndices::new(&linked)
            })?,
            transformation: present(contracts.transformation, || transformation::GuestIndices::new(&linked))?,
            observe: present(contracts.observe, || observe::GuestIndices::new(&linked))?,
            tick: present(contracts.tick, || tick::GuestIndices::new(&linked))?,
        };
        Ok(Template { linked, indices, engine, waits, _code: Arc::clone(code) })
    }

    /// The instructions that an instance has executed since this was asked last; `None` if the engine does not count
    /// them.
    pub(crate) fn executed(&self, instance: &mut Instance) -> Option<u64> {
        if !self.engine.counts {
            return None;
        }
        let left = instance.store.get_fuel().ok()?;
        instance.store.set_fuel(u64::MAX).ok()?;
        Some(u64::MAX - left)
    }

    /// Makes an instance, which is not configured yet. Each step of the set-up may take `time`.
    ///
    /// # Errors
    /// There is no room for the instance, or its start function traps.
    pub(crate) fn instantiate(&self, rights: &Arc<Rights>, time: Duration) -> wasmtime::Result<Instance> {
        let (mut store, stopwatch, mailbox) = fresh_store(&self.engine, rights)?;
        store.data_mut().begin_setup(time);
        let instance = if self.waits {
            at_once(self.linked.instantiate_async(&mut store))?
        } else {
            self.linked.instantiate(&mut store)?
        };
        let indices = &self.indices;
        let exports = Exports {
            lifecycle: indices.lifecycle.load(&mut store, &instance)?,
            gate: load(indices.gate.as_ref(), |i| i.load(&mut store, &instance))?,
            authentication: load(indices.authentication.as_ref(), |i| i.load(&mut store, &instance))?,
            authentication_by_body: load(indices.authentication_by_body.as_ref(), |i| {
                i.load(&mut store, &instance)
            })?,
            rate_limiting: load(indices.rate_limiting.as_ref(), |i| i.load(&mut store, &instance))?,
            refusal_by_body: load(indices.refusal_by_body.as_ref(), |i| i.load(&mut store, &instance))?,
            routing: load(indices.routing.as_ref(), |i| i.load(&mut store, &instance))?,
            routing_by_body: load(indices.routing_by_body.as_ref(), |i| i.load(&mut store, &instance))?,
            transformation: load(indices.transformation.as_ref(), |i| i.load(&mut store, &instance))?,
            observe: load(indices.observe.as_ref(), |i| i.load(&mut store, &instance))?,
            tick: load(indices.tick.as_ref(), |i| i.load(&mut store, &instance))?,
        };
        Ok(Instance { store, exports, stopwatch, mailbox, uses: 0 })
    }

    /// Calls `settings-schema` of a new instance.
    ///
    /// # Errors
    /// The call traps, or uses up its budget.
    pub(crate) fn settings_schema(
        &self,
        instance: &mut Instance,
        time: Duration,
    ) -> wasmtime::Result<String> {
        let function = instance.exports.lifecycle.func_settings_schema();
        instance.store.data_mut().begin_setup(time);
        instance.store.set_epoch_deadline(FIRST_LOOK);
        let (schema,) = if self.waits {
            at_once(function.call_async(&mut instance.store, ()))?
        } else {
            function.call(&mut instance.store, ())?
        };
        instance.store.data_mut().end();
        Ok(schema)
    }

    /// Calls a function of a configured instance by which it declares what one of its contracts looks at.
    ///
    /// # Errors
    /// The call traps, or uses up its budget.
    pub(crate) fn declare<R: ComponentNamedList + Lift + 'static>(
        &self,
        instance: &mut Instance,
        function: TypedFunc<(), R>,
        time: Duration,
    ) -> wasmtime::Result<R> {
        instance.store.data_mut().begin_setup(time);
        instance.store.set_epoch_deadline(FIRST_LOOK);
        let declared = if self.waits {
            at_once(function.call_async(&mut instance.store, ()))?
        } else {
            function.call(&mut instance.store, ())?
        };
        instance.store.data_mut().end();
        Ok(declared)
    }

    /// Calls `configure` of a new instance.
    ///
    /// # Errors
    /// The call traps, or uses up its budget.
    pub(crate) fn configure(
        &self,
        instance: &mut Instance,
        settings: &str,
        time: Duration,
    ) -> wasmtime::Result<Result<lifecycle::Interest, Vec<lifecycle::SettingsProblem>>> {
        let lifecycle = instance.exports.lifecycle.clone();
        let function = lifecycle.func_configure();
        instance.store.data_mut().begin_setup(time);
        instance.store.set_epoch_deadline(FIRST_LOOK);
        let (answer,) = if self.waits {
            at_once(function.call_async(&mut instance.store, (settings,)))?
        } else {
            function.call(&mut instance.store, (settings,))?
        };
        instance.store.data_mut().end();
        Ok(answer)
    }
}

/// A store without an instance, with a budget, a clock and a mailbox.
///
/// # Errors
/// There is no memory for it.
pub(crate) fn fresh_store(
    engine: &Engine,
    rights: &Arc<Rights>,
) -> wasmtime::Result<(Store<HostState>, Stopwatch, Mailbox)> {
    let stopwatch = Stopwatch::new(Arc::clone(&engine.clock));
    let mailbox = Mailbox::default();
    let state = HostState::new(Arc::clone(rights), stopwatch.clone(), mailbox.clone());
    let mut store = Store::try_new(&engine.wasmtime, state)?;
    if engine.counts {
        store.set_fuel(u64::MAX)?;
    }
    store.limiter(|state| &mut state.space);
    store.set_hostcall_fuel(transfer(&rights.budget));
    let watch = stopwatch.clone();
    store.epoch_deadline_callback(move |_| watch.look());
    store.set_epoch_deadline(FIRST_LOOK);
    Ok((store, stopwatch, mailbox))
}

/// The most bytes that may be copied out of a guest at once: a result, or the largest value that a host function
/// takes. Results are checked against their own budget afterwards.
fn transfer(budget: &Budget) -> usize {
    budget.output.max(budget.body_limit.saturating_add(budget.context_limit)).max(2 * VALUE)
}

fn present<T>(exported: bool, find: impl FnOnce() -> wasmtime::Result<T>) -> wasmtime::Result<Option<T>> {
    exported.then(find).transpose()
}

fn load<I, G>(
    indices: Option<&I>,
    load: impl FnOnce(&I) -> wasmtime::Result<G>,
) -> wasmtime::Result<Option<G>> {
    indices.map(load).transpose()
}

/// The result of a call that cannot wait: outside of a request, `fetch` and a store that waits return an error
/// immediately.
fn at_once<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    call.now_or_never().unwrap_or_else(|| Err(wasmtime::Error::msg("the plugin waits while it is set up")))
}
