//! Tests of the contracts, with real guests compiled from source.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod additions;
mod background;
mod child;
mod contracts;
mod credentials;
mod exchange;
mod fetch;
mod granted;
mod imports;
mod loading;
mod misbehaving;
mod pools;
mod promises;
mod scene;
mod stores;
