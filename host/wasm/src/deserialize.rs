//! The one place that trusts bytes to be compiled code.
#![expect(unsafe_code, reason = "loading compiled code is unsafe in wasmtime: it runs what it is given")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads compiled code that this gateway has compiled itself.
///
/// # Errors
/// The code was made by another version of wasmtime, or with another configuration.
pub(crate) fn deserialize(engine: &Engine, authenticated: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes came out of `Component::serialize` of this gateway. The caller, `cache`, has checked that by a
    // code of authentication whose key only this user can read, over all of these bytes and the engine's configuration.
    unsafe { Component::deserialize(engine, authenticated) }
}
