//! Plugins as WebAssembly components: the only crate that knows wasmtime.
//!
//! # From file to call
//!
//! | step | module | what happens |
//! |---|---|---|
//! | look | [`inspect`] | what a component exports and imports, without compiling it |
//! | load | `load`, [`refusal`] | digest, grants, settings, a first instance; a [`Loaded`] binding or a [`Refusal`] |
//! | compile | `compile`, `cache` | a child process with limits, one at a time; compiled code is kept on disk |
//! | hold | `instance`, `pool`, `upkeep` | for each binding and core, instances leased for one call each |
//! | call | `call`, `budget` | one file a contract; CPU, wall time, memory and host calls are capped |
//! | serve | `imports` | what a guest may ask of the host while it runs |
//! | watch | `record`, `quarantine`, `revert`, [`meter`] | how the calls of a version went, what becomes of it for that, and what is counted |
//! | try | `trial` | a plugin's tests as programs, in the same engine, with the same imports |
//!
//! # Decisions
//!
//! * The engine runs without component-model async: a call costs a third. Standard components that need it get an
//!   engine of their own.
//! * Calls are synchronous where no import waits. Only a component that may use `fetch`, or a store that waits, runs on a
//!   stack of its own, so that its core serves others while it waits.
//! * A trap ends the store: nothing in it is called again. The next call finds another instance.
//! * The head of a request comes in with the call, as far as the plugin declared interest; the borrowed request is the
//!   `Arc` the host holds anyway. Nothing about a request stays in a store when its call is over.

mod bindings;
mod budget;
mod cache;
mod call;
mod clock;
mod compile;
mod deserialize;
mod engine;
mod expose;
mod imports;
mod input_tracker;
pub mod inspect;
mod instance;
pub mod journal;
mod load;
pub mod meter;
mod plugin;
mod pool;
mod quarantine;
mod record;
pub mod refusal;
mod revert;
mod rights;
mod runtime;
mod state;
mod trial;
mod upkeep;

pub use compile::{CHILD_COMMAND, ChildArguments, Compiling, compile_component};
pub use inspect::Inspection;
pub use load::{BindingRequest, Component};
pub use plugin::Loaded;
pub use quarantine::Health;
pub use record::Calls;
pub use refusal::{Reason, Refusal};
pub use runtime::{INSTANCES, OnRevert, Runtime, RuntimeOptions, StartError};
pub use trial::{RunOutcome, Trial, TrialError};
