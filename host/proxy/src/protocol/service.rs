//! The call from a protocol into [`serve`], common to all versions of HTTP.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use http::{Method, Request, Response, Version};

use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::protocol::connection::Connection;
use crate::protocol::hygiene::Refusal;
use crate::protocol::upgrade::Side;
use crate::serve::serve;

/// Takes one request to its response; `side` is the client's side of the tunnel that it asks for. A panic ends
/// only this request, with the fault `Internal`.
pub(crate) async fn answer(
    connection: Rc<Connection>,
    request: &mut Request<Body>,
    side: Option<Side>,
) -> Response<Body> {
    let (method, version) = (request.method().clone(), request.version());
    let walk = AssertUnwindSafe(serve(connection.clone(), request, side)).catch_unwind();
    match walk.await {
        Ok(response) => response,
        Err(_) => {
            let fault = Fault::new(FaultKind::Internal).cause("panic");
            Refusal::new(&connection, method, version, fault)
                .into_response(&connection, &connection.snapshot())
        }
    }
}

/// The response to a request that could not be read.
pub(crate) fn refuse(connection: &Rc<Connection>, version: Version, fault: Fault) -> Response<Body> {
    // Nothing of such a request is used, not even its method.
    let unknown = Method::from_bytes(b"-").expect("a dash is a token");
    let refusal = Refusal::new(connection, unknown, version, fault);
    refusal.into_response(connection, &connection.snapshot())
}
