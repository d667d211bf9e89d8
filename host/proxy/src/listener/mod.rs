//! Doors: sockets, accepting, TLS, draining. The cores that serve what comes in.
//!
//! | file | what happens there |
//! |---|---|
//! | [`plane`] | start, swap, drain: what the control plane asks for |
//! | `door` | one listener: its address, its counters, and the generation of its connection settings |
//! | `opening`, `socket`, `inherited` | listening sockets, bound here or handed to us |
//! | `core` | one thread and runtime a core |
//! | `accept` | the accept loop |
//! | `tls`, `certificate` | certificates by server name, and what client certificates say |
//! | `expose` | metrics of cores |
//! | `retire` | where old snapshots are dropped, away from the data path |

mod accept;
pub(crate) mod certificate;
pub(crate) mod core;
pub mod door;
mod expose;
mod inherited;
mod opening;
pub mod plane;
mod retire;
mod socket;
pub(crate) mod tls;

pub use door::{BoundListener, DrainPhase};
pub use opening::ListenerTls;
pub use plane::{DataPlane, DoorStatus};

#[cfg(test)]
pub(crate) mod tests;
