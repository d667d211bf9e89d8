//! The walk of a request: read this first.
//!
//! [`serve`] is the outer function: whatever happens, it returns exactly one response and makes one record.
//! [`walk`] is the inner function and uses `?`.

use std::rc::Rc;

use http::{Request, Response};

use crate::body::Body;
use crate::fault::Fault;
use crate::pipeline;
use crate::pipeline::exchange::Exchange;
use crate::protocol::connection::Connection;
use crate::protocol::upgrade::Side;
use crate::protocol::{body, hygiene, upgrade};
use crate::upstream;

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
    let mut response = Response::default();
    if let Err(fault) = walk(&mut exchange, body, &mut response).await {
        response = exchange.fault(fault);
    }
    pipeline::ascend(&mut exchange, &mut response).await;
    upgrade::join(&mut exchange, side, &mut response);
    exchange.finish(&mut response);
    response
}

/// Chooses the route, passes the stages down, and forwards upstream. A stage may respond early.
async fn walk(exchange: &mut Exchange, body: Body, response: &mut Response<Body>) -> Result<(), Fault> {
    exchange.choose_route()?;
    exchange.count_in_flight();
    let body = body::limit(exchange, body)?;
    match pipeline::descend(exchange, body).await? {
        pipeline::Descent::Answered(early) => {
            *response = early;
            Ok(())
        }
        pipeline::Descent::Forward(body) => upstream::forward(exchange, body, response).await,
    }
}
