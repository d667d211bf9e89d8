//! Checking values against a JSON Schema, for people: every mistake at its place, in words, with what was meant.

mod check;
mod describe;
mod finding;
mod leaf;
mod nearest;

pub(crate) use check::check;
pub(crate) use finding::Finding;
pub(crate) use nearest::nearest;
