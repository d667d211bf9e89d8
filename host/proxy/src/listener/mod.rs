//! Listening sockets, accepting, TLS and draining, and the core threads that serve the accepted connections.
//!
//! | file | what happens there |
//! |---|---|
//! | [`data_plane`] | start, swap, drain: what the control plane asks for |
//! | `bound` | one listener: its address, its counters, and the generation of its connection settings |
//! | `opening`, `socket`, `inherited` | listening sockets, bound here or inherited from a supervisor |
//! | `core` | one thread and one runtime for each core |
//! | `accept` | the accept loop |
//! | `tls`, `certificate` | server certificates by server name, and the fields of client certificates |
//! | `expose` | metrics of the cores |
//! | `retire` | where replaced snapshots are dropped, away from the data path |

mod accept;
pub mod bound;
pub(crate) mod certificate;
pub(crate) mod core;
pub mod data_plane;
mod expose;
mod opening;
mod retire;
mod socket;
pub(crate) mod tls;
mod workload;

pub use bound::{BoundListener, DrainPhase};
pub use data_plane::{BoundStatus, DataPlane};
pub use opening::{ListenerTls, bind_hint};

#[cfg(test)]
pub(crate) mod tests;
