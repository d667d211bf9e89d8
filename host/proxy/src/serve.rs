//! The walk of a request: read this first.
//!
//! [`serve`] is the outer function: whatever happens, it turns into exactly one response and one record. [`walk`] is
//! the way of a request whose route is known, and [`forward`] the part of it that may fail, where `?` is used.

use std::rc::Rc;

use http::{Request, Response};

use crate::body::Body;
use crate::fault::Fault;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::{self, Descent};
use crate::protocol::connection::Connection;
use crate::protocol::upgrade::Side;
use crate::protocol::{body, hygiene, upgrade};
use crate::router::Route;

/// Takes one request of a connection to its response. `side` is the client's side of the tunnel that the request
/// may ask for. The parts of `request` are taken out and must not be used afterwards.
pub async fn serve(
    connection: Rc<Connection>,
    request: &mut Request<Body>,
    side: Option<Side>,
) -> Response<Body> {
    let snapshot = connection.snapshot();
    let (mut exchange, body, side) = match hygiene::admit(&connection, &snapshot, request, side) {
        Ok(admitted) => admitted.into_exchange(snapshot),
        Err(refusal) => return refusal.into_response(&connection, &snapshot),
    };
    let response = match exchange.choose_route() {
        Ok(route) => walk(&mut exchange, &route, body).await,
        Err(fault) => exchange.facts.fault(fault),
    };
    let response = upgrade::join(&mut exchange, side, response);
    exchange.finish(response)
}

/// Stages down, upstream, stages up.
async fn walk(exchange: &mut Exchange, route: &Route, body: Body) -> Response<Body> {
    exchange.count_in_flight();
    let response = match forward(exchange, route, body).await {
        Ok(response) => response,
        Err(fault) => exchange.facts.fault(fault),
    };
    pipeline::ascend(exchange, route, response).await
}

/// Stages down, upstream. An early answer of a stage is a response like any other.
async fn forward(exchange: &mut Exchange, route: &Route, body: Body) -> Result<Response<Body>, Fault> {
    let body = body::limit(exchange, route, body)?;
    match pipeline::descend(exchange, route, body).await? {
        Descent::Answered(response) => Ok(response),
        Descent::Passed(body) => route.destination.serve(&mut exchange.facts, body).await,
    }
}
