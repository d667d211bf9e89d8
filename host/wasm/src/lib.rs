//! Plugins as WebAssembly components: the only crate that knows wasmtime.
//!
//! # From file to call
//!
//! | step | module | what happens |
//! |---|---|---|
//! | inspect | [`inspect`] | what a component exports and imports, without compiling it |
//! | load | `load`, [`refusal`] | digest, grants, settings, a first instance; a [`Loaded`] binding or a [`Refusal`] |
//! | compile | `compile`, `cache` | a child process with limits, one at a time; compiled code is kept on disk |
//! | pool | `instance`, `pool`, `upkeep` | for each binding and core, instances leased for one call each |
//! | call | `call`, `budget` | one file for each contract; CPU time, wall time, memory and host calls are limited |
//! | serve | `imports`, [`Data`], `password`, `sealing` | the functions that a guest may call while it runs |
//! | background | `background`, `observing`, `ticking` | calls that no request waits for |
//! | watch | `record`, `quarantine`, `revert`, [`meter`] | results of the calls of a version, what follows from them, and metrics |
//! | test | `trial` | test programs of a plugin, in the same engine, with the same imports |
//!
//! # Decisions
//!
//! * The engine runs without component-model async, which makes a call three times as expensive. Standard
//!   components that need async get an engine of their own.
//! * Calls are synchronous unless the component may call `fetch`, or a store that waits. Only then does a call run on a
//!   stack of its own, so that its core serves other requests while the call waits.
//! * A trap ends the store: nothing in it is called again. The next call uses another instance.
//! * The parts of the request head in which the plugin declared interest are parameters of the call. The borrowed
//!   request is the `Arc` that the host holds anyway. No data of a request stays in a store after the call.

mod background;
mod bindings;
mod budget;
mod cache;
mod call;
mod clock;
mod compile;
mod data;
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
mod observing;
mod password;
mod plugin;
mod pool;
mod quarantine;
mod record;
pub mod refusal;
mod revert;
mod rights;
mod runtime;
mod sealing;
mod state;
mod ticking;
mod trial;
mod upkeep;

pub use compile::{CHILD_COMMAND, ChildArguments, Compiling, compile_component};
pub use data::Data;
pub use inspect::Inspection;
pub use journal::Journal;
pub use load::{BindingRequest, Component};
pub use plugin::Loaded;
pub use quarantine::Health;
pub use record::Calls;
pub use refusal::{Reason, Refusal};
pub use runtime::{CurrentUpstreams, INSTANCES, OnRevert, Runtime, RuntimeOptions, StartError};
pub use trial::{RunOutcome, Trial, TrialError};
