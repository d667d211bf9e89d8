//! The call from a protocol into [`serve`], common to all versions of HTTP.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response, Version};
use witgate_exchange::arrival::Arrival;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::informational::Informational;
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
    informational: Informational,
) -> Response<Body> {
    let (method, version) = (request.method().clone(), request.version());
    let client = side.map(|side| ClientSide { side, guard: Some(connection.guard().clone()) });
    let arrival = Arrival { informational, ..Arrival::new(connection.ingress.clone()) };
    let walk = AssertUnwindSafe(serve(&connection.gateway, arrival, request, client)).catch_unwind();
    match walk.await {
        Ok(response) => response,
        Err(_) => Box::pin(failed(&connection, &method, version)).await,
    }
}

/// The response after a panic. If it was a filter that panicked, it may do so again, so that the response is made
/// without filters then.
async fn failed(connection: &Connection, method: &Method, version: Version) -> Response<Body> {
    let refusal = || {
        let fault = Fault::new(FaultKind::Internal).cause("panic");
        let arrival = Arrival::new(connection.ingress.clone());
        Refusal::new(arrival, method.clone(), version, HeaderMap::new(), fault)
    };
    let (gateway, snapshot) = (&connection.gateway, connection.gateway.snapshot());
    let filtered = AssertUnwindSafe(refusal().into_response(gateway, snapshot.clone())).catch_unwind();
    filtered.await.unwrap_or_else(|_| refusal().into_bare_response(gateway, snapshot))
}

/// The response to a request that could not be read. `headers`: what filters need to know of it.
pub(crate) async fn refuse(
    connection: &Connection,
    version: Version,
    headers: HeaderMap,
    fault: Fault,
) -> Response<Body> {
    // Nothing else of such a request is used, not even its method.
    let unknown = Method::from_bytes(b"-").expect("a dash is a token");
    let refusal = Refusal::new(Arrival::new(connection.ingress.clone()), unknown, version, headers, fault);
    refusal.into_response(&connection.gateway, connection.gateway.snapshot()).await
}
