//! Kinds of state that need nothing outside of this process.

pub mod memory;
