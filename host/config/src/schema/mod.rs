//! Checking values against a JSON Schema, for people: every mistake at its place, in words, with what was meant.

mod branches;
mod check;
mod describe;
mod finding;
mod leaf;
mod nearest;
mod steps;
mod table;

pub(crate) use check::check;
pub(crate) use finding::Finding;
pub(crate) use nearest::nearest;
