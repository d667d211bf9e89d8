//! Every kind of state under one suite, and each with what only it can meet.

mod conformance;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "redis")]
mod fleet;
#[cfg(feature = "redis")]
mod redis;
mod scene;
