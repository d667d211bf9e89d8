//! The data path of the Witgate gateway.
//!
//! # The walk of a request
//!
//! One short function, [`serve`], takes a request through the gateway. The folders of this crate are its steps, in
//! order:
//!
//! | step | module | what happens |
//! |---|---|---|
//! | accept | [`listener`] | one socket for each core (`SO_REUSEPORT`), TLS, limits on connections |
//! | read | [`protocol`] | HTTP/1.1 or HTTP/2, checks: one unambiguous, normalised [`RequestHead`](head::RequestHead) or a [`Fault`](fault::Fault) |
//! | route | [`router`] | the route is chosen once, by specificity |
//! | down | [`pipeline`], [`filters`] | native filters, then plugins: authentication, rate limiting, routing, transformation |
//! | forward | [`upstream`], [`balancer`] | endpoint, circuit breaker, pooled connection of this core, one exchange |
//! | up | [`pipeline`], [`filters`] | the same stages in reverse over the response |
//! | out | [`telemetry`] | metrics, access log line and span, after the last byte |
//!
//! # Two planes
//!
//! The control plane builds a [`Snapshot`](snapshot::Snapshot), which never changes, and swaps one pointer. The
//! data plane reads that pointer once for each request and keeps that snapshot to the end of the request.

pub mod balancer;
pub mod body;
pub(crate) mod composed;
pub(crate) mod cookie;
pub mod fault;
pub mod filters;
pub mod head;
pub(crate) mod kept;
pub mod listener;
pub mod names;
pub(crate) mod pem;
pub mod pipeline;
pub mod protocol;
pub mod router;
pub mod serve;
pub mod snapshot;
pub(crate) mod tcp;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
pub mod turn;
pub mod upstream;
