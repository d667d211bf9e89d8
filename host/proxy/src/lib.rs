//! The data path of the Witgate gateway, and its architecture document.
//!
//! # The walk of a request
//!
//! A request's way is one short function, [`serve`], and the folders of this crate are that way, in order:
//!
//! | step | module | what happens |
//! |---|---|---|
//! | accept | [`listener`] | one socket a core (`SO_REUSEPORT`), TLS, limits on connections |
//! | speak | [`protocol`] | HTTP/1.1 or HTTP/2, hygiene: one unambiguous, normalised [`RequestHead`](head::RequestHead) or a [`Fault`](fault::Fault) |
//! | route | [`router`] | the route is chosen once, by specificity |
//! | down | [`pipeline`], [`filters`] | native filters, then plugins: authentication, rate limiting, routing, transformation |
//! | forward | [`upstream`], [`balancer`] | endpoint, breaker, pooled connection of this core, one exchange |
//! | up | [`pipeline`], [`filters`] | the same stages in reverse over the response |
//! | out | [`telemetry`] | metrics, access log line and span, once the last byte is through |
//!
//! What the walk calls without knowing it (plugins, counters, stores) is behind the traits of [`contracts`]; [`state`] has the
//! counters and stores that need nothing but memory.
//!
//! # Two planes, one door
//!
//! The control plane builds a [`Snapshot`](snapshot::Snapshot), which never changes, and swaps one pointer. The data
//! plane reads that pointer once per request and keeps what it read to the end.

pub mod balancer;
pub mod body;
pub(crate) mod composed;
pub mod contracts;
pub(crate) mod cookie;
pub mod fault;
pub mod filters;
pub mod head;
pub mod identity;
pub(crate) mod kept;
pub mod listener;
pub mod names;
pub mod pipeline;
pub mod protocol;
pub mod router;
pub mod serve;
pub mod snapshot;
pub mod state;
pub(crate) mod tcp;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
pub mod turn;
pub mod upstream;
