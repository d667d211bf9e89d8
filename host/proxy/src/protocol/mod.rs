//! From bytes to requests: HTTP/1.1, HTTP/2, the checks on request heads, and upgrades.
//!
//! | file | what happens there |
//! |---|---|
//! | [`connection`] | one client connection: TLS, choice of protocol, what belongs to its socket |
//! | [`http1`] | HTTP/1.1: a server of our own, strict and narrow |
//! | [`http2`] | HTTP/2: its streams, and limits on clients that do not read |
//! | `lifetime` | how long a connection lives |
//! | `maps` | header maps that are reused from one message to the next |
//! | `service` | from a request to [`serve`](crate::serve::serve) and back |
//! | [`hygiene`], [`path`], `authority`, [`forwarded`] | one unambiguous, normalised head, or a refusal |
//! | [`body`] | request bodies: limits on size and pace |
//! | [`upgrade`] | tunnels |

pub(crate) mod authority;
pub mod body;
pub mod connection;
pub(crate) mod deadline;
pub mod forwarded;
pub mod http1;
pub mod http2;
pub mod hygiene;
mod lifetime;
pub(crate) mod maps;
pub mod path;
mod preface;
mod service;
mod socket;
pub mod upgrade;

#[cfg(test)]
pub(crate) mod tests;
