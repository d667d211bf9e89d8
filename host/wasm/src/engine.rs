//! The engine: how components are compiled and where their memory comes from.
//!
//! # Where the memory is
//!
//! A gateway with one core and four bindings (jwt, rate-limit, canary, headers), restarted and after a second of load, has
//! 23 MB, without plugins 10 MB (proportional set size; trained and arranged build). Of the difference:
//!
//! | part | MB |
//! |---|---|
//! | compiled code, 3.0, and its tables, 1.2: copied out of the cache, so that who may write to its folder cannot change it later | 4.2 |
//! | pages of this program that only plugins need: wasmtime, the compiler's tables | 2.4 |
//! | the heap: the engine, what it knows of four components, their instances, remembered answers | 5.9 |
//! | the guests' memory | 0.2 |
//!
//! It was 34 MB: 4.6 were what loading had used and nobody gave back, 4.4 the table of rate limits, taken whole with the
//! first draw. What is left is mostly wasmtime's.
//!
//! A binding more of a plugin in Rust takes 114 KB for each core. By the page faults of 32 bindings of headers: 44 KB the guest
//! itself writes (its stack, its statics, its heap and settings), 26 KB are the instance in the host (wasmtime's, a page for
//! its table, a page and a half for its context), 16 KB answers that are remembered and the growing request; the rest was not
//! found. 64 KB would take guests that share what they only read after their start, e.g. a copy-on-write image made after
//! `configure` and not before it.

use std::sync::Arc;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::clock::Clock;

/// Stack a guest may use.
const GUEST_STACK: usize = 512 << 10;

/// Stack of a call that may wait: the guest's and what the host needs above it.
const FIBER_STACK: usize = 2 << 20;

/// Bytes of an instance's memory that stay resident when its place is used again. Clearing them by hand is cheaper
/// than giving the pages back to the kernel.
const KEEP_RESIDENT: usize = 64 << 10;

/// The engine for the contracts of `witgate:plugin`, with its clock.
///
/// Components of other worlds that need component-model async get another engine: its cost is in every call.
pub(crate) struct Engine {
    /// What compiles and runs.
    pub(crate) wasmtime: wasmtime::Engine,
    /// What makes its epoch advance.
    pub(crate) clock: Arc<Clock>,
}

impl Engine {
    /// An engine with room for this many instances at once.
    ///
    /// Instances come from a pool, which halves the price of a fresh one. Where the kernel refuses its address space
    /// (a limit on virtual memory), they are mapped one by one.
    ///
    /// # Errors
    /// The processor or the kernel lacks what compiled code needs.
    pub(crate) fn new(instances: u32) -> wasmtime::Result<Engine> {
        let pooled = wasmtime::Engine::new(config().allocation_strategy(pool(instances)));
        let wasmtime = pooled.or_else(|_| wasmtime::Engine::new(&config()))?;
        let engine = wasmtime.weak();
        let clock = Clock::start(move || engine.upgrade().map(|engine| engine.increment_epoch()).is_some())?;
        Ok(Engine { wasmtime, clock: Arc::new(clock) })
    }
}

/// An engine for a process that only compiles. What it makes is what [`Engine`] runs: the configuration is the same, but for
/// where instances come from, which compiled code does not depend on.
///
/// # Errors
/// The processor lacks what compiled code needs.
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
        // Compilation stays on one thread: the limits of the process that compiles count all of them.
        .parallel_compilation(false)
        .wasm_memory64(false)
        .memory_init_cow(true);
    config
}

fn pool(instances: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // A component is several core modules: the plugin and the shims that join it to its imports.
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
