//! From bytes to requests: HTTP/1.1, HTTP/2, what is let in, and upgrades.

pub(crate) mod authority;
pub mod body;
pub mod connection;
pub mod forwarded;
mod http1;
pub mod hygiene;
pub mod path;
mod service;
pub mod upgrade;
