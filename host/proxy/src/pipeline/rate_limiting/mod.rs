//! The rate-limiting contract.

pub mod counter;
