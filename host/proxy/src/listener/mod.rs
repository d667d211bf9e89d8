//! Doors: sockets, accepting, TLS, draining. The cores that serve what comes in.
//!
//! | file | what happens there |
//! |---|---|
//! | [`data_plane`] | start, swap, drain: what the control plane asks for |
//! | `bound` | one listener: its address, its counters, and the generation of its connection settings |
//! | `opening`, `socket`, `inherited` | listening sockets, bound here or handed to us |
//! | `core` | one thread and runtime a core |
//! | `accept` | the accept loop |
//! | `tls`, `certificate` | certificates by server name, and what client certificates say |
//! | `expose` | metrics of cores |
//! | `retire` | where old snapshots are dropped, away from the data path |

mod accept;
pub mod bound;
pub(crate) mod certificate;
pub(crate) mod core;
pub mod data_plane;
mod expose;
mod inherited;
mod opening;
mod retire;
mod socket;
pub(crate) mod tls;

pub use bound::{BoundListener, DrainPhase};
pub use data_plane::{BoundStatus, DataPlane};
pub use opening::ListenerTls;

#[cfg(test)]
pub(crate) mod tests;
