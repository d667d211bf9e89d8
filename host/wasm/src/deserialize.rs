//! The one place that trusts bytes to be compiled code.
#![expect(unsafe_code, reason = "loading compiled code is unsafe in wasmtime: it runs what it is given")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads compiled code that this gateway has compiled itself.
///
/// The bytes are run as they are, so they come from one of two places only, neither of which anybody else can write to:
///
/// * the cache on disk, whose entries carry a code of authentication with a key that only this user can read;
/// * a child process of this very binary, over a pipe that only the two of them hold, in an answer that carries a code of
///   authentication with a key that was made for this one question: an answer that was cut short, or belongs to another
///   question, is not taken. The child is trusted as the compiler in this process would be. What it is given is not: a
///   fault of the compiler that lets a component choose the code that comes out would harm either way.
///
/// # Errors
/// The code was made by another version of wasmtime, or with another configuration.
pub(crate) fn deserialize(engine: &Engine, authenticated: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes came out of `Engine::precompile_component` or `Component::serialize` of this gateway. The callers,
    // `cache` and `compile`, have checked that by a code of authentication over all of these bytes.
    unsafe { Component::deserialize(engine, authenticated) }
}
