//! The data path of the Witgate gateway.
//!
//! # The walk of a request
//!
//! One short function, [`serve`], takes a request through the gateway. The folders of this crate are its steps, in
//! order:
//!
//! | step | module | what happens |
//! |---|---|---|
//! | consume | [`consume`] | a message of a broker becomes a request, which takes the steps from *arrive* on |
//! | accept | [`listener`] | one socket for each core (`SO_REUSEPORT`), TLS, limits on connections |
//! | arrive | [`arrival`](witgate_exchange::arrival), [`gateway`] | how a request came in, by a connection or otherwise, and what serves it |
//! | read | [`protocol`] | HTTP/1.1 or HTTP/2, checks: one unambiguous, normalised [`RequestHead`](witgate_exchange::head::RequestHead) or a [`Fault`](witgate_exchange::fault::Fault) |
//! | route | [`router`] | the route is chosen once, by specificity |
//! | down | [`pipeline`], [`filters`] | native filters, then authentication, rate limiting, choice of the upstream, routing, transformation, native filters |
//! | serve | [`destination`] | an upstream, a redirect, a fixed response or a broker makes the response |
//! | forward | [`witgate_upstream`] | endpoint, circuit breaker, pooled connection of this core, one exchange |
//! | up | [`pipeline`], [`filters`] | the same stages in reverse over the response |
//! | out | [`telemetry`](witgate_telemetry) | metrics, access log line and span, and the completion of the arrival, after the last byte |
//!
//! What every step needs to know of a request is in its [`Facts`](witgate_exchange::facts::Facts), which know no connection, snapshot, route
//! or upstream. What only the walk needs besides is in its [`Exchange`](pipeline::exchange::Exchange).
//!
//! The walk calls plugins, counters and stores through the traits of [`contracts`](witgate_exchange::contracts). [`state`] has the counters and stores
//! that need only memory.
//!
//! # Two planes
//!
//! The control plane builds a [`Snapshot`](snapshot::Snapshot), which never changes, and swaps one pointer. The
//! data plane reads that pointer once for each request and keeps that snapshot to the end of the request.

#![forbid(unsafe_code)]

pub mod consume;
mod core_local;
pub mod destination;
pub mod filters;
pub mod gateway;
pub mod listener;
pub mod pipeline;
pub mod protocol;
pub mod router;
pub mod serve;
pub mod snapshot;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;
