//! Tunnels: what remains of an exchange once both sides have switched protocols.

use http::Response;
use hyper::upgrade::OnUpgrade;

use crate::body::Body;
use crate::pipeline::exchange::Exchange;

/// If the response is a 101 that the client asked for, joins both sides once it is sent; otherwise hands it on.
pub fn join(
    _exchange: &mut Exchange,
    _client: Option<OnUpgrade>,
    _response: Response<Body>,
) -> Response<Body> {
    todo!("protocol")
}
