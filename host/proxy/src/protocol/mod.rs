//! From bytes to requests: HTTP/1.1, HTTP/2, what is let in, and upgrades.
//!
//! | file | what happens there |
//! |---|---|
//! | [`connection`] | one client connection: TLS, which protocol, what its requests share |
//! | `wire`, `framing` | HTTP/1.1 bytes, judged before hyper sees them |
//! | `http1`, `http2`, `lifetime` | the two protocols, and how long a connection lives |
//! | `service` | from hyper's request to [`serve`](crate::serve::serve) and back |
//! | [`hygiene`], [`path`], `authority`, [`forwarded`] | one unambiguous, normalised head, or a refusal |
//! | [`body`] | request bodies: size and pace |
//! | [`upgrade`] | tunnels |

mod activity;
mod authority;
pub mod body;
pub mod connection;
mod deadline;
pub mod forwarded;
mod framing;
mod http1;
mod http2;
pub mod hygiene;
mod lifetime;
pub mod path;
mod preface;
mod service;
mod socket;
pub mod upgrade;
mod wire;

#[cfg(test)]
mod tests;
