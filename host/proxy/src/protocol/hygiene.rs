//! What is let in: one unambiguous, normalised head, or a refusal.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::body::Body;
use crate::fault::Fault;
use crate::head::RequestHead;
use crate::pipeline::exchange::Exchange;
use crate::protocol::connection::Connection;
use crate::snapshot::Snapshot;

/// A request that was let in.
pub struct Admitted {
    /// Its head.
    pub head: RequestHead,
    /// Its body, limited in size and pace.
    pub body: Body,
    /// The client's side of an upgrade it asks for.
    pub upgrade: Option<OnUpgrade>,
}

impl Admitted {
    /// Begins the exchange.
    pub fn into_exchange(self, _snapshot: Arc<Snapshot>) -> (Exchange, Body, Option<OnUpgrade>) {
        todo!("protocol")
    }
}

/// A request that was not let in.
pub struct Refusal {
    /// Why.
    pub fault: Fault,
}

impl Refusal {
    /// The answer; it is recorded like any other, with route `-`.
    pub fn into_response(self, _connection: &Connection, _snapshot: &Snapshot) -> Response<Body> {
        todo!("protocol")
    }
}

/// Checks and normalises a request head.
///
/// # Errors
/// A refusal with the fault to answer.
pub fn admit(
    _connection: &std::rc::Rc<Connection>,
    _snapshot: &Snapshot,
    _request: Request<Incoming>,
) -> Result<Admitted, Refusal> {
    todo!("protocol")
}
