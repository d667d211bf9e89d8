//! The one place that treats bytes as compiled code.
#![expect(unsafe_code, reason = "loading compiled code is unsafe in wasmtime: it runs what it is given")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads compiled code that this gateway has compiled itself.
///
/// The bytes are executed without further checks, so they come from one of two places only, which nobody else can
/// write to:
///
/// * The cache on disk. Its entries carry a message authentication code with a key that only this user can read.
/// * A child process of this binary, through a pipe that only the two processes hold, in a reply that carries a
///   message authentication code with a key made for this one request. A reply that is truncated or belongs to
///   another request is refused. The child is trusted like a compiler in this process. The component is not
///   trusted, but a bug in the compiler that lets a component choose the generated code would be as harmful in
///   this process.
///
/// # Errors
/// The code was made by another version of wasmtime, or with another configuration.
pub(crate) fn deserialize(engine: &Engine, authenticated: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are the output of `Engine::precompile_component` or `Component::serialize` of this
    // gateway. The callers, `cache` and `compile`, have checked that with a message authentication code over all
    // of these bytes.
    unsafe { Component::deserialize(engine, authenticated) }
}
