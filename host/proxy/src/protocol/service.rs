//! Between a protocol and the walk: what every answer needs, whichever version of HTTP carries it.

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

/// Takes one request to its answer; `side` is the client's side of a tunnel it may ask for. A panic on the way ends this
/// request and nothing else.
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

/// The answer to a request that was refused before it could be read.
pub(crate) fn refuse(connection: &Rc<Connection>, version: Version, fault: Fault) -> Response<Body> {
    // Nothing of such a request is believed, its method included.
    let unknown = Method::from_bytes(b"-").expect("a dash is a token");
    let refusal = Refusal::new(connection, unknown, version, fault);
    refusal.into_response(connection, &connection.snapshot())
}
