//! The functions of the gateway that a plugin may call. In a component the calls go to the gateway; in a native
//! build they go to the mocks of [`test`](crate::test), so that the plugin's code is the same in both.

pub mod calendar;
pub mod clock;
pub mod crypto;
pub mod data;
pub mod ending;
pub mod facts;
pub mod fetch;
pub mod log;
pub mod metrics;
pub mod notes;
pub mod observed;
pub mod password;
pub mod random;
pub mod response_body;
pub mod settlement;
pub mod span;
pub mod store;
pub mod upstream_host;

/// The implementation of the imports, chosen here.
mod backend {
    #[cfg(target_family = "wasm")]
    pub(super) use crate::bindings::additions::witgate::plugin0_2_0::crypto as crypto_additions;
    #[cfg(all(target_family = "wasm", not(feature = "test")))]
    pub(super) use crate::bindings::additions::witgate::plugin0_2_0::{
        calendar, data, ending, facts, notes, observed, password, response_body, settlement, span,
        store as store_additions, upstream_host,
    };
    #[cfg(target_family = "wasm")]
    pub(super) use crate::bindings::host::witgate::plugin::crypto;
    #[cfg(all(target_family = "wasm", not(feature = "test")))]
    pub(super) use crate::bindings::host::witgate::plugin::{fetch, log, metrics, store};
    #[cfg(any(not(target_family = "wasm"), feature = "test"))]
    pub(super) use crate::test::{
        calendar, data, ending, facts, fetch, log, metrics, notes, observed, password, response_body,
        settlement, span, store, store as store_additions, upstream_host,
    };
    #[cfg(not(target_family = "wasm"))]
    pub(super) use crate::test::{crypto, crypto_additions};
}
