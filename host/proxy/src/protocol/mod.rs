//! From bytes to requests: HTTP/1.1, HTTP/2, what is let in, and upgrades.

pub mod connection;
pub mod hygiene;
pub mod path;
pub mod upgrade;
