//! From bytes to requests: HTTP/1.1, HTTP/2, the checks on request heads, and upgrades.
//!
//! | file | what happens there |
//! |---|---|
//! | [`connection`] | one client connection: TLS, choice of protocol, what belongs to its socket |
//! | `first_bytes` | the PROXY header, and the ClientHello where it decides whether TLS ends here |
//! | `tcp` | connections that are forwarded as they are |
//! | [`http1`] | HTTP/1.1: a server of our own, strict and narrow |
//! | [`http2`] | HTTP/2: its streams, and limits on clients that do not read |
//! | `lifetime` | how long a connection lives |
//! | `service` | from a request to [`serve`](crate::serve::serve) and back |
//! | [`hygiene`], [`path`](witgate_exchange::path), [`authority`](witgate_exchange::authority), [`forwarded`] | one unambiguous, normalised head, or a refusal |
//! | [`body`] | request bodies: limits on size and pace |
//! | [`upgrade`] | tunnels |

pub mod body;
pub mod connection;
mod first_bytes;
pub mod forwarded;
pub mod http1;
pub mod http2;
pub mod hygiene;
mod lifetime;
mod service;
pub(crate) mod tcp;
pub mod upgrade;

#[cfg(test)]
pub(crate) mod tests;
