//! The functions of the gateway that a plugin may call. In a component the calls go to the gateway; in a native
//! build they go to the mocks of [`test`](crate::test), so that the plugin's code is the same in both.

pub mod clock;
pub mod crypto;
pub mod data;
pub mod fetch;
pub mod log;
pub mod metrics;
pub mod password;
pub mod random;
pub mod store;

/// The implementation of the imports, chosen here.
mod backend {
    #[cfg(target_family = "wasm")]
    pub(super) use crate::bindings::additions::witgate::plugin0_2_0::crypto as crypto_additions;
    #[cfg(all(target_family = "wasm", not(feature = "test")))]
    pub(super) use crate::bindings::additions::witgate::plugin0_2_0::{data, password};
    #[cfg(target_family = "wasm")]
    pub(super) use crate::bindings::host::witgate::plugin::crypto;
    #[cfg(all(target_family = "wasm", not(feature = "test")))]
    pub(super) use crate::bindings::host::witgate::plugin::{fetch, log, metrics, store};
    #[cfg(not(target_family = "wasm"))]
    pub(super) use crate::test::{crypto, crypto_additions};
    #[cfg(any(not(target_family = "wasm"), feature = "test"))]
    pub(super) use crate::test::{data, fetch, log, metrics, password, store};
}
