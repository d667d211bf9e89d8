//! Heads, fields and chunks of HTTP/1 (RFC 9112): reading and writing bytes, no connection.

pub mod chunks;
mod coding;
pub mod field;
pub mod head;
pub mod write;
