//! Between a protocol and the walk: what every answer needs, whichever version of HTTP carries it.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::protocol::connection::Connection;
use crate::protocol::hygiene::Refusal;
use crate::serve::serve;

/// Headers of a response that are the connection's own business: hyper writes what is needed of them.
const FRAMING: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes one request to its answer. A panic on the way ends this request and nothing else.
pub(crate) async fn answer(connection: Rc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let (method, version) = (request.method().clone(), request.version());
    let walk = AssertUnwindSafe(serve(connection.clone(), request)).catch_unwind();
    let response = match walk.await {
        Ok(response) => response,
        Err(_) => {
            let fault = Fault::new(FaultKind::Internal).cause("panic");
            Refusal::new(&connection, method, version, fault)
                .into_response(&connection, &connection.snapshot())
        }
    };
    finish(&connection, version, response)
}

/// The answer to a request that was refused before it could be read.
pub(crate) fn refuse(connection: &Rc<Connection>, version: Version, fault: Fault) -> Response<Body> {
    // Nothing of such a request is believed, its method included.
    let unknown = Method::from_bytes(b"-").expect("a dash is a token");
    let refusal = Refusal::new(connection, unknown, version, fault);
    finish(connection, version, refusal.into_response(connection, &connection.snapshot()))
}

fn finish(connection: &Connection, version: Version, mut response: Response<Body>) -> Response<Body> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !switches {
        for name in &FRAMING {
            response.headers_mut().remove(name);
        }
    }
    *response.version_mut() = version;
    if version < Version::HTTP_2 && connection.is_closing() && !switches {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
