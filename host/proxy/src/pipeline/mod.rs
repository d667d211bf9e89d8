//! The pipeline: filters and plugins, down over the request and up over the response.
//!
//! The way down: native filters of stage *edge* (client address, CORS preflight and others), then the phases of
//! plugins in their fixed order (gate, authentication, authentication by body, rate limiting, refusal by body, routing,
//! routing by body, transformation), then native filters of
//! stage *origin*. Between refusal by body and routing, the destination of the route chooses the upstream.
//!
//! The way up: the same stages in reverse order, over every response: that of the destination, of a fault, or of a
//! stage that responded early. Filters of stage *edge* see every response; filters of stage *origin* and plugins
//! only that of a request that has reached them on the way down.
//!
//! A request without a route has the filters of its gateway and listener ([`without_route`]), and so has the response
//! to a request that could not be read ([`refused`]).
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
pub(crate) mod remembered;
mod routing;
#[cfg(test)]
mod tests;
mod transformation;
mod validate;
mod when;

use http::Response;
use witgate_exchange::body::Body;
use witgate_exchange::fault::Fault;
use witgate_exchange::turn;

use crate::filters::{Filters, Stage, Step};
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

/// Takes a request whose route is chosen through every stage on the way down. A request whose body is refused from
/// the beginning passes the edge filters nevertheless, because they decide about its log line and its id.
///
/// # Errors
/// The fault of the body, of the stage that refused the request, or of the plugin that failed.
pub async fn descend(
    exchange: &mut Exchange,
    route: &Route,
    body: Result<Body, Fault>,
) -> Result<Descent, Fault> {
    let (body, refused) = match body {
        Ok(body) => (body, None),
        Err(fault) => (Body::Empty, Some(fault)),
    };
    if !route.conditional.is_empty() {
        when::judge(exchange, route);
    }
    let body = match enter(exchange, &route.filters, Stage::Edge, body).await? {
        Step::Proceed(body) => body,
        Step::Answer(response) => return Ok(answered(exchange, response)),
    };
    if let Some(fault) = refused {
        return Err(fault);
    }
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
    if !exchange.undecided.is_empty() {
        when::judge_by_identity(exchange, route);
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
    let body = match enter(exchange, &route.filters, Stage::Origin, body).await? {
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
    if route.filters.is_empty() && exchange.transformations.is_empty() {
        add_headers(exchange, &mut response);
        return response;
    }
    response = leave(exchange, &route.filters, Stage::Origin, response).await;
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
    leave(exchange, &route.filters, Stage::Edge, response).await
}

/// The response to a request that has no route: the edge filters of gateway and listener see it as they see every
/// request, and may respond to it (a preflight) or refuse it (an address) themselves.
pub async fn without_route(exchange: &mut Exchange, fault: Fault) -> Response<Body> {
    let filters = exchange.common_filters();
    let response = match enter(exchange, &filters, Stage::Edge, Body::Empty).await {
        Ok(Step::Proceed(_)) => exchange.facts.fault(fault),
        Ok(Step::Answer(response)) => {
            exchange.facts.local_response = true;
            response
        }
        Err(fault) => exchange.facts.fault(fault),
    };
    leave(exchange, &filters, Stage::Edge, response).await
}

/// The response to a request that could not be read, or that ended in a panic. The edge filters of gateway and
/// listener see only the response: the request is not one.
pub async fn refused(exchange: &mut Exchange, fault: Fault) -> Response<Body> {
    let filters = exchange.common_filters();
    stage(&filters, Stage::Edge).iter().for_each(|(_, filter)| filter.unreadable(&mut exchange.facts));
    let response = exchange.facts.fault(fault);
    leave(exchange, &filters, Stage::Edge, response).await
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
async fn enter(
    exchange: &mut Exchange,
    filters: &Filters,
    place: Stage,
    mut body: Body,
) -> Result<Step, Fault> {
    for (_, filter) in stage(filters, place) {
        exchange.origin_filters_entered += usize::from(place == Stage::Origin);
        match filter.request(&mut exchange.facts, body).await? {
            Step::Proceed(next) => body = next,
            answer @ Step::Answer(_) => return Ok(answer),
        }
    }
    Ok(Step::Proceed(body))
}

/// Leaves the filters of one stage, in reverse order: at the edge all of them, next to the upstream those that were
/// entered.
async fn leave(
    exchange: &mut Exchange,
    filters: &Filters,
    place: Stage,
    mut response: Response<Body>,
) -> Response<Body> {
    let filters = stage(filters, place);
    let left = match place {
        Stage::Edge => filters.len(),
        Stage::Origin => exchange.origin_filters_entered.min(filters.len()),
    };
    for (_, filter) in filters[..left].iter().rev() {
        response = filter.response(&mut exchange.facts, response).await;
    }
    response
}

/// The filters of one stage. Edge filters come first in every list.
fn stage(filters: &Filters, place: Stage) -> &Filters {
    let (edge, origin) = filters.split_at(filters.partition_point(|(at, _)| *at == Stage::Edge));
    match place {
        Stage::Edge => edge,
        Stage::Origin => origin,
    }
}

fn answered(exchange: &mut Exchange, response: Response<Body>) -> Descent {
    exchange.facts.local_response = true;
    Descent::Answered(response)
}
