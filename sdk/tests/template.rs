//! What `witgate plugin new` makes, compiled and tested as its author would find it.

#[path = "../template/src/lib.rs"]
mod template;
