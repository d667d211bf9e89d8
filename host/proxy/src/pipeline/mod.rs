//! Filters and plugins, down over the request and up over the response.
//!
//! Down: native filters of place *edge* (client address, CORS preflight …), then the plugin phases in their fixed
//! order (authentication, rate limiting, routing, transformation), then native filters of place *origin*.
//! Up: the same in reverse.

pub mod exchange;
pub mod plugin;
pub mod rate_limiting;

use http::Response;

use crate::body::Body;
use crate::fault::Fault;
use exchange::Exchange;

/// Where the way down ended.
pub enum Descent {
    /// A stage answered by itself.
    Answered(Response<Body>),
    /// To be forwarded, with this body. The head is the exchange's: [`crate::upstream::forward`] makes the request for
    /// the endpoint it picks, and may have to make it again.
    Forward(Body),
}

/// Takes a routed request through every stage down.
pub async fn descend(_exchange: &mut Exchange, _body: Body) -> Result<Descent, Fault> {
    todo!("pipeline")
}

/// Takes a response (also a fault's or an early answer) through every stage up. Never fails: a fault on the way up
/// replaces the response.
pub async fn ascend(_exchange: &mut Exchange, _response: Response<Body>) -> Response<Body> {
    todo!("pipeline")
}
