//! The engine: how components are compiled and how the memory of their instances is allocated.
//!
//! What the runtime and one binding cost in memory is measured in `tests/bench/NOTES.md`.

use std::sync::Arc;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::clock::Clock;

/// Stack that a guest may use, in bytes.
const GUEST_STACK: usize = 512 << 10;

/// Stack of a call that may wait, in bytes: the guest's stack and what the host functions need above it.
const FIBER_STACK: usize = 2 << 20;

/// Bytes of memory that stay resident in a slot of the pool for its next instance. Clearing them costs less than
/// returning the pages to the kernel.
const KEEP_RESIDENT: usize = 64 << 10;

/// The engine for the contracts of `witgate:plugin`, with its epoch clock.
///
/// Components of other worlds that need component-model async get another engine, because async support slows down
/// every call.
pub(crate) struct Engine {
    /// Compiles and runs components.
    pub(crate) wasmtime: wasmtime::Engine,
    /// Advances the epoch of the engine.
    pub(crate) clock: Arc<Clock>,
    /// Whether it counts the instructions that guests execute, which makes them slower.
    pub(crate) counts: bool,
}

impl Engine {
    /// An engine for at most this many instances at once.
    ///
    /// Instances are allocated from a pool, which halves the cost of a new one. If the kernel refuses the address
    /// space of the pool (a limit on virtual memory), each instance is mapped when it is made.
    ///
    /// # Errors
    /// The processor or the kernel lacks a feature that compiled code needs.
    pub(crate) fn new(instances: u32) -> wasmtime::Result<Engine> {
        Engine::with(instances, &config(), false)
    }

    /// As [`Engine::new`], for measuring: it counts the instructions that guests execute.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub(crate) fn counting(instances: u32) -> wasmtime::Result<Engine> {
        Engine::with(instances, config().consume_fuel(true), true)
    }

    fn with(instances: u32, config: &Config, counts: bool) -> wasmtime::Result<Engine> {
        let pooled = wasmtime::Engine::new(config.clone().allocation_strategy(pool(instances)));
        let wasmtime = pooled.or_else(|_| wasmtime::Engine::new(config))?;
        let engine = wasmtime.weak();
        let clock = Clock::start(move || engine.upgrade().map(|engine| engine.increment_epoch()).is_some())?;
        Ok(Engine { wasmtime, clock: Arc::new(clock), counts })
    }
}

/// An engine for a process that only compiles. [`Engine`] can run its code: the configurations differ only in the
/// allocation of instances, on which compiled code does not depend.
///
/// # Errors
/// The processor lacks a feature that compiled code needs.
pub(crate) fn for_compiling() -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config())
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(FIBER_STACK)
        // Compilation runs on one thread, because the limits of the compiling process apply to all its threads
        // together.
        .parallel_compilation(false)
        .wasm_memory64(false)
        .memory_init_cow(true);
    config
}

fn pool(instances: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // A component has several core modules: the plugin and the adapters that connect it to its imports.
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(instances)
        .table_elements(100_000)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    InstanceAllocationStrategy::Pooling(pool)
}
