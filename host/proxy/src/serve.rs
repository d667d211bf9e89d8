//! The walk of a request: read this first.
//!
//! [`serve`] is the outer function: whatever happens, it turns into exactly one response and one record. [`walk`] is
//! the way itself and uses `?`.

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

/// Takes one request of one connection to its response. `side` is the client's side of a tunnel it may ask for. What
/// remains of the request is of no further use.
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

/// Route, stages down, upstream. An early answer of a stage is a response like any other.
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
