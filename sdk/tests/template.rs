//! The crate that `witgate plugin new` makes, compiled and tested as for its author.

#[path = "../template/src/lib.rs"]
mod template;
