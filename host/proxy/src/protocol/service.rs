//! Between a protocol and the walk: what every answer needs, whichever version of HTTP carries it.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::protocol::connection::Connection;
use crate::protocol::hygiene::Refusal;
use crate::serve::serve;

/// Takes one request to its answer. A panic on the way ends this request and nothing else.
pub(crate) async fn answer(connection: Rc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let (method, version) = (request.method().clone(), request.version());
    let walk = AssertUnwindSafe(serve(connection.clone(), request)).catch_unwind();
    let mut response = match walk.await {
        Ok(response) => response,
        Err(_) => {
            let fault = Fault::new(FaultKind::Internal).cause("panic");
            Refusal::new(&connection, method, version, fault)
                .into_response(&connection, &connection.snapshot())
        }
    };
    if version < Version::HTTP_2 {
        if connection.closing.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    } else {
        *response.version_mut() = Version::HTTP_2;
    }
    response
}
