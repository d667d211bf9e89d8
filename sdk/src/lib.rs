//! Write a plugin for the Witgate gateway.

extern crate self as witgate_sdk;

#[doc(hidden)]
pub mod bindings;
mod contracts;
mod export;
mod headers;
mod imports;
mod plugin;
mod request;
mod response;
#[cfg(any(not(target_family = "wasm"), feature = "test"))]
pub mod test;
mod values;

pub use contracts::authentication::{Acceptance, Authentication, Decision, Input};
pub use contracts::rate_limiting::{Bucket, Buckets, RateLimiting};
pub use contracts::routing::{Destination, Routing};
pub use contracts::transformation::{
    BodyResult, Chunk, HeaderChange, RequestChanges, RequestOutcome, ResponseChanges, ResponseOutcome,
    Transformation,
};
pub use headers::Values;
pub use imports::{clock, crypto, fetch, log, metrics, random, store};
pub use plugin::{BodyAccess, Interest, NoSettings, Plugin, Settings, SettingsProblem};
pub use request::{Header, Identity, Request};
pub use response::{Response, ResponseView};
pub use values::{HeaderName, Period};
pub use witgate_sdk_macros::{authentication, rate_limiting, routing, settings, transformation};

/// What settings are read with, for types that need more than [`settings`](macro@settings) derives.
pub use {schemars, serde};

/// What the macros expand to. Not for plugins.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::{Component, Instance, in_use};
    pub use wit_bindgen::rt as runtime;
}
