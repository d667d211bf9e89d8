//! The walk of a request: read this first.
//!
//! [`serve`] is the outer function: whatever happens, it returns exactly one response and makes one record.
//! [`walk`] takes a request whose route is known through the stages down, to the destination, and its response
//! through the stages up. [`descend`] is the part of it that may fail, and uses `?`.

#[cfg(test)]
mod tests;

use http::{Request, Response};
use witgate_exchange::arrival::Arrival;
use witgate_exchange::body::Body;
use witgate_exchange::fault::Fault;

use crate::gateway::Gateway;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::{self, Descent};
use crate::protocol::upgrade::ClientSide;
use crate::protocol::{body, hygiene, upgrade};
use crate::router::Route;

/// Serves one request, however it arrived, and returns its response. `client` is the client's side of the tunnel
/// for which the request may ask. The parts of `request` are moved out of it, so it must not be used afterwards.
pub async fn serve(
    gateway: &Gateway,
    arrival: Arrival,
    request: &mut Request<Body>,
    client: Option<ClientSide>,
) -> Response<Body> {
    let snapshot = gateway.snapshot();
    let (mut exchange, body, client) = match hygiene::admit(arrival, gateway, &snapshot, request, client) {
        Ok(admitted) => admitted.into_exchange(gateway, snapshot),
        Err(refusal) => return Box::pin(refusal.into_response(gateway, snapshot)).await,
    };
    let response = match exchange.choose_route() {
        Ok(route) => walk(&mut exchange, &route, body, client.is_some()).await,
        // Boxed, so that requests with a route do not hold memory for it.
        Err(fault) => Box::pin(pipeline::without_route(&mut exchange, fault)).await,
    };
    let response = upgrade::join(&mut exchange, client, response);
    exchange.finish(response)
}

/// Stages down, destination, stages up. The response of a fault is treated like any other. `tunnels`: whether the
/// client asks for a tunnel.
async fn walk(exchange: &mut Exchange, route: &Route, body: Body, tunnels: bool) -> Response<Body> {
    exchange.count_in_flight();
    exchange.keep_received(route);
    let response = match descend(exchange, route, body).await {
        Ok(response) => response,
        Err(fault) => exchange.facts.fault(fault),
    };
    let response = upgrade::check(exchange, tunnels, response);
    pipeline::ascend(exchange, route, response).await
}

/// Stages down, among which the upstream is chosen, and the destination. The early response of a stage is treated
/// like any other.
async fn descend(exchange: &mut Exchange, route: &Route, body: Body) -> Result<Response<Body>, Fault> {
    let body = body::limit(exchange, route, body);
    match pipeline::descend(exchange, route, body).await? {
        Descent::Answered(response) => Ok(response),
        Descent::Passed(body) => route.destination.serve(&mut exchange.facts, body).await,
    }
}
