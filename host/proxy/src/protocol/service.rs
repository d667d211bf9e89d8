//! The call from a protocol into [`serve`], common to all versions of HTTP.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use http::{Method, Request, Response, Version};
use witgate_exchange::arrival::Arrival;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::stream::Side;

use crate::protocol::connection::Connection;
use crate::protocol::hygiene::Refusal;
use crate::protocol::upgrade::ClientSide;
use crate::serve::serve;

/// Takes one request of a connection to its response; `side` is the client's side of the tunnel that it asks for. A panic ends
/// only this request, with the fault `Internal`.
pub(crate) async fn answer(
    connection: Rc<Connection>,
    request: &mut Request<Body>,
    side: Option<Side>,
) -> Response<Body> {
    let (method, version) = (request.method().clone(), request.version());
    let client = side.map(|side| ClientSide { side, guard: Some(connection.guard().clone()) });
    let arrival = Arrival::new(connection.ingress.clone());
    let walk = AssertUnwindSafe(serve(&connection.gateway, arrival, request, client)).catch_unwind();
    match walk.await {
        Ok(response) => response,
        Err(_) => refused(&connection, method, version, Fault::new(FaultKind::Internal).cause("panic")),
    }
}

/// The response to a request that could not be read.
pub(crate) fn refuse(connection: &Connection, version: Version, fault: Fault) -> Response<Body> {
    // Nothing of such a request is used, not even its method.
    let unknown = Method::from_bytes(b"-").expect("a dash is a token");
    refused(connection, unknown, version, fault)
}

fn refused(connection: &Connection, method: Method, version: Version, fault: Fault) -> Response<Body> {
    let refusal = Refusal::new(Arrival::new(connection.ingress.clone()), method, version, fault);
    refusal.into_response(&connection.gateway, connection.gateway.snapshot())
}
