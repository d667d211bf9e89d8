//! Checking values against a JSON Schema, for people: every mistake at its place, in words, with what was meant.

mod check;
mod describe;
mod nearest;

pub(crate) use check::{Finding, check};
pub(crate) use nearest::nearest;
