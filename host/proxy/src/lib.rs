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
//! | arrive | [`arrival`], [`gateway`] | how a request came in, by a connection or otherwise, and what serves it |
//! | read | [`protocol`] | HTTP/1.1 or HTTP/2, checks: one unambiguous, normalised [`RequestHead`](head::RequestHead) or a [`Fault`](fault::Fault) |
//! | route | [`router`] | the route is chosen once, by specificity |
//! | down | [`pipeline`], [`filters`] | native filters, then authentication, rate limiting, choice of the upstream, routing, transformation, native filters |
//! | serve | [`destination`] | an upstream, a redirect or a fixed response makes the response |
//! | forward | [`upstream`], [`balancer`] | endpoint, circuit breaker, pooled connection of this core, one exchange |
//! | up | [`pipeline`], [`filters`] | the same stages in reverse over the response |
//! | out | [`telemetry`] | metrics, access log line and span, and the completion of the arrival, after the last byte |
//!
//! What every step needs to know of a request is in its [`Facts`](facts::Facts), which know no connection, snapshot, route
//! or upstream. What only the walk needs besides is in its [`Exchange`](pipeline::exchange::Exchange).
//!
//! The walk calls plugins, counters and stores through the traits of [`contracts`]. [`state`] has the counters and stores
//! that need only memory.
//!
//! # Two planes
//!
//! The control plane builds a [`Snapshot`](snapshot::Snapshot), which never changes, and swaps one pointer. The
//! data plane reads that pointer once for each request and keeps that snapshot to the end of the request.

pub mod arrival;
pub mod balancer;
pub mod body;
pub(crate) mod composed;
pub mod contracts;
pub(crate) mod cookie;
pub mod destination;
pub mod facts;
pub mod fault;
pub mod filters;
pub mod gateway;
pub mod head;
pub mod identity;
pub mod listener;
pub mod names;
pub(crate) mod pem;
pub mod pipeline;
pub mod protocol;
pub mod replay;
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
