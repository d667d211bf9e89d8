//! State that outlives a process, and state that the gateways of a fleet share: where the draws of rate limiting
//! are counted and where plugins store keys.
//!
//! | file | kind | choose it for |
//! |---|---|---|
//! | `file` | [`file::KIND`] | one gateway whose quotas and keys must survive a restart or a crash |
//! | `redis` | [`redis::KIND`] | several gateways that count together, or plugins that share keys between gateways |
//!
//! The kind `memory` needs no library and is part of the data path. The traits are
//! [`State`](witgate_exchange::contracts::state::State), [`Counter`](witgate_exchange::contracts::counter::Counter)
//! and [`KeyStore`](witgate_exchange::contracts::store::KeyStore); one suite of tests,
//! `tests/kinds/conformance.rs`, holds every kind to the same behaviour. Each kind is a Cargo feature, because
//! only it needs its client library.
//!
//! Client libraries run on threads of their own. A core sends an operation to the thread and waits for the result
//! without blocking; it never reads a file or a socket of a state itself. What is read comes from outside this
//! process and is checked for size and form before it is used.

use witgate_exchange::contracts::state::Kind;

#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "redis")]
pub mod redis;

/// Every kind of this crate that was compiled in.
pub const KINDS: &[Kind] = &[
    #[cfg(feature = "file")]
    file::KIND,
    #[cfg(feature = "redis")]
    redis::KIND,
];
