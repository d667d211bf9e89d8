//! Checks values against a JSON Schema, for people: every mistake with its position, in words, with what was
//! probably meant.

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
