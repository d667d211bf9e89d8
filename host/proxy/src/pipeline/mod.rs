//! The pipeline: filters and plugins, down over the request and up over the response.
//!
//! The way down: native filters of stage *edge* (client address, CORS preflight and others), then the phases of
//! plugins in their fixed order (gate, authentication, authentication by body, rate limiting, refusal by body, routing,
//! routing by body, transformation), then native filters of
//! stage *origin*. Between refusal by body and routing, the destination of the route chooses the upstream.
//!
//! The way up: the same stages in reverse order, over every response: that of the destination, of a fault, or of a
//! stage that responded early. Only filters and plugins that were entered on the way down see the response.
//!
//! Bodies are passed on unchanged and unbuffered, except for transformations that declare them (`body`). What decisions
//! on a body (`by_body`) read of it is kept until it is sent.
//!
//! Behind the last stage is the [destination](crate::destination) of the route. This is so even if the destination
//! redirects or responds locally, so that authentication and limits protect it and transformations apply to it.

mod authentication;
mod body;
mod by_body;
mod call;
pub mod exchange;
mod gate;
pub mod rate_limiting;
mod remembered;
mod routing;
#[cfg(test)]
mod tests;
mod transformation;
mod validate;

use std::sync::Arc;

use http::Response;
use witgate_exchange::body::Body;
use witgate_exchange::fault::Fault;
use witgate_exchange::turn;

use crate::filters::{Filter, Stage, Step};
use crate::router::Route;
use body::reader::BodyReader;
use exchange::Exchange;
use remembered::MissToken;
use transformation::ResponseProgress;

/// How the way down ended.
pub enum Descent {
    /// A stage responded in place of the destination.
    Answered(Response<Body>),
    /// The request has passed every stage; this is its body for the destination.
    Passed(Body),
}

/// Takes a request whose route is chosen through every stage on the way down.
///
/// # Errors
/// The fault of the stage that refused the request, or whose plugin failed.
pub async fn descend(exchange: &mut Exchange, route: &Route, body: Body) -> Result<Descent, Fault> {
    let body = match enter(exchange, route, Stage::Edge, body).await? {
        Step::Proceed(body) => body,
        Step::Answer(response) => return Ok(answered(exchange, response)),
    };
    if !route.gate.is_empty()
        && let Some(response) = gate::run(exchange, route).await?
    {
        return Ok(answered(exchange, response));
    }
    let mut body = BodyReader::new(body);
    if route.authenticates()
        && let Some(refusal) = authentication::run(exchange, route, &mut body).await?
    {
        return Ok(answered(exchange, refusal));
    }
    if !route.rate_limiting.is_empty() {
        rate_limiting::run(exchange, route).await?;
    }
    if !route.refusal_by_body.is_empty()
        && let Some(refusal) = Box::pin(by_body::refuse(exchange, route, &mut body)).await?
    {
        return Ok(answered(exchange, refusal));
    }
    let destination = &route.destination;
    if destination.choose(&mut exchange.facts)? {
        routing::run(exchange, route).await?;
        if !route.routing_by_body.is_empty() {
            Box::pin(by_body::route(exchange, route, &mut body)).await?;
        }
    }
    if !route.transformation.is_empty()
        && let Some(response) = transformation::request(exchange, route).await?
    {
        return Ok(answered(exchange, response));
    }
    authentication::write_identity(exchange)?;
    let body = body.into_body();
    let body = if destination.reads_body() && !exchange.transformations.is_empty() {
        body::prepare(exchange, route);
        body::request(exchange, route, body).await?
    } else {
        body
    };
    let body = match enter(exchange, route, Stage::Origin, body).await? {
        Step::Proceed(body) => body,
        Step::Answer(response) => return Ok(answered(exchange, response)),
    };
    if route.has_plugins() && destination.reads_body() {
        // While plugins run, the process of the upstream goes to sleep, and each request would wake it. After a
        // yield, the requests of all tasks that are ready are sent together and wake it once.
        turn::give_up().await;
    }
    Ok(Descent::Passed(body))
}

/// Takes a response (also that of a fault or of an early stage) through every stage on the way up. Never fails: a
/// fault on the way up replaces the response.
pub async fn ascend(exchange: &mut Exchange, route: &Route, mut response: Response<Body>) -> Response<Body> {
    if exchange.filters_entered == 0 && exchange.transformations.is_empty() {
        add_headers(exchange, &mut response);
        return response;
    }
    response = leave(exchange, route, Stage::Origin, response).await;
    if !exchange.transformations.is_empty() {
        response = match transformation::recall_response(exchange, route, response) {
            ResponseProgress::Nothing(response) => response,
            // Boxed, so that requests whose transformations need no call do not hold memory for its state.
            ResponseProgress::Turns(response, asked) => {
                Box::pin(transform(exchange, route, response, asked)).await
            }
        };
    }
    add_headers(exchange, &mut response);
    leave(exchange, route, Stage::Edge, response).await
}

/// Adds the headers that stages on the way down have left for the response.
fn add_headers(exchange: &mut Exchange, response: &mut Response<Body>) {
    for (name, value) in std::mem::take(&mut exchange.facts.response_headers) {
        response.headers_mut().append(name, value);
    }
}

/// Calls the transformations that are left. A fault of one becomes the response that the remaining ones see.
async fn transform(
    exchange: &mut Exchange,
    route: &Route,
    mut response: Response<Body>,
    mut asked: Option<MissToken>,
) -> Response<Body> {
    loop {
        match transformation::response(exchange, route, response, asked.take()).await {
            Ok(response) => return response,
            Err(fault) => {
                response = exchange.facts.fault(fault);
            }
        }
    }
}

/// Enters the filters of one stage. A filter counts as entered once it is called, whatever it decides.
async fn enter(exchange: &mut Exchange, route: &Route, place: Stage, mut body: Body) -> Result<Step, Fault> {
    for (_, filter) in stage(route, place) {
        exchange.filters_entered += 1;
        match filter.request(&mut exchange.facts, body).await? {
            Step::Proceed(next) => body = next,
            answer @ Step::Answer(_) => return Ok(answer),
        }
    }
    Ok(Step::Proceed(body))
}

/// Leaves those filters of one stage that were entered, in reverse order.
async fn leave(
    exchange: &mut Exchange,
    route: &Route,
    place: Stage,
    mut response: Response<Body>,
) -> Response<Body> {
    let filters = stage(route, place);
    let entered = match place {
        Stage::Edge => exchange.filters_entered,
        Stage::Origin => exchange.filters_entered.saturating_sub(stage(route, Stage::Edge).len()),
    };
    for (_, filter) in filters[..entered.min(filters.len())].iter().rev() {
        response = filter.response(&mut exchange.facts, response).await;
    }
    response
}

/// The filters of the route at one stage. Edge filters come first in its list.
fn stage(route: &Route, place: Stage) -> &[(Stage, Arc<dyn Filter>)] {
    let (edge, origin) = route.filters.split_at(route.filters.partition_point(|(at, _)| *at == Stage::Edge));
    match place {
        Stage::Edge => edge,
        Stage::Origin => origin,
    }
}

fn answered(exchange: &mut Exchange, response: Response<Body>) -> Descent {
    exchange.facts.local_response = true;
    Descent::Answered(response)
}
