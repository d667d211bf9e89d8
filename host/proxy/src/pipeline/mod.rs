//! Filters and plugins, down over the request and up over the response.
//!
//! Down: native filters of place *edge* (client address, CORS preflight …), then the plugin phases in their fixed
//! order (authentication, rate limiting, routing, transformation), then native filters of place *origin*.
//! Up: the same in reverse, over every response: the upstream's, a fault's, or the early answer of a stage. Only what
//! was entered on the way down sees it.
//!
//! Bodies pass untouched and unbuffered, but for transformations that declare them (`body`).
//!
//! A route that redirects or answers by itself does so where others forward: after every stage, so that
//! authentication and limits protect it and transformations apply to it.

mod authentication;
mod body;
mod call;
pub mod exchange;
pub mod rate_limiting;
mod remembered;
mod routing;
#[cfg(test)]
mod tests;
mod transformation;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use witgate_config::model::Action;

use crate::body::Body;
use crate::fault::Fault;
use crate::filters::{Filter, Stage, Step};
use crate::router::Route;
use crate::turn;
use exchange::Exchange;
use remembered::MissToken;
use transformation::ResponseProgress;

/// Where the way down ended.
pub enum Descent {
    /// A stage answered by itself.
    Answered(Response<Body>),
    /// To be forwarded, with this body. The head is the exchange's: [`crate::upstream::forward`] makes the request for
    /// the endpoint it picks, and may have to make it again.
    Forward(Body),
}

/// Takes a routed request through every stage down.
///
/// # Errors
/// The fault of the stage that refused, or whose plugin failed.
pub async fn descend(exchange: &mut Exchange, body: Body) -> Result<Descent, Fault> {
    // Taken out for as long as its stages have the exchange.
    let Some(route) = exchange.route.take() else { return Ok(Descent::Forward(body)) };
    let descent = through_stages(exchange, &route, body).await;
    exchange.route = Some(route);
    descent
}

async fn through_stages(exchange: &mut Exchange, route: &Route, body: Body) -> Result<Descent, Fault> {
    let body = match enter(exchange, route, Stage::Edge, body)? {
        Step::Proceed(body) => body,
        Step::Answer(response) => return Ok(answered(exchange, response)),
    };
    if !route.authentication.is_empty()
        && let Some(refusal) = authentication::run(exchange, route).await?
    {
        return Ok(answered(exchange, refusal));
    }
    if !route.rate_limiting.is_empty() {
        rate_limiting::run(exchange, route).await?;
    }
    routing::run(exchange, route).await?;
    if !route.transformation.is_empty()
        && let Some(response) = transformation::request(exchange, route).await?
    {
        return Ok(answered(exchange, response));
    }
    authentication::write_identity(exchange)?;
    let forwards = matches!(route.config.action, Action::Forward(_));
    let body = if forwards && !exchange.transformations.is_empty() {
        body::prepare(exchange, route);
        body::request(exchange, route, body).await?
    } else {
        body
    };
    let step = enter(exchange, route, Stage::Origin, body)?;
    if let Some(delay) = exchange.delay.take() {
        wait(exchange, delay).await;
    }
    let body = match step {
        Step::Proceed(body) => body,
        Step::Answer(response) => return Ok(answered(exchange, response)),
    };
    if let Some(response) = route.local_answer(&exchange.head) {
        return Ok(answered(exchange, response));
    }
    if route.has_plugins() {
        // An upstream falls asleep while plugins are asked, and each request would wake it. Behind all others that are
        // ready, what they have to send goes out together and wakes it once. Four plugins with fresh tokens cost 0.87 of
        // what they did before, and 0.94 with tokens that were seen before (ratios to nginx, interleaved rounds); without
        // plugins nothing is gained, and HTTP/2 loses.
        turn::give_up().await;
    }
    Ok(Descent::Forward(body))
}

/// Takes a response (also a fault's or an early answer) through every stage up. Never fails: a fault on the way up
/// replaces the response.
pub async fn ascend(exchange: &mut Exchange, response: &mut Response<Body>) {
    if exchange.filters_entered == 0 && exchange.transformations.is_empty() {
        return add_headers(exchange, response);
    }
    // Nobody asks for it any more.
    let Some(route) = exchange.route.take() else { return };
    leave(exchange, &route, Stage::Origin, response);
    if !exchange.transformations.is_empty() {
        let left = transformation::recall_response(exchange, &route, std::mem::take(response));
        *response = match left {
            ResponseProgress::Nothing(response) => response,
            // Boxed, so that requests whose transformations are over at once do not carry its state around.
            ResponseProgress::Turns(response, asked) => {
                Box::pin(transform(exchange, &route, response, asked)).await
            }
        };
    }
    add_headers(exchange, response);
    leave(exchange, &route, Stage::Edge, response);
}

/// Adds what stages on the way down wanted on the response.
fn add_headers(exchange: &mut Exchange, response: &mut Response<Body>) {
    for (name, value) in std::mem::take(&mut exchange.response_headers) {
        response.headers_mut().append(name, value);
    }
}

/// Lets the transformations have their turns; the fault of one is a response to those that have not.
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
                exchange.local_response = true;
                response = exchange.fault(fault);
            }
        }
    }
}

/// Enters the filters of one place. A filter counts as entered once it is asked, whatever it decides.
fn enter(exchange: &mut Exchange, route: &Route, place: Stage, mut body: Body) -> Result<Step, Fault> {
    for (_, filter) in stage(route, place) {
        exchange.filters_entered += 1;
        match filter.request(exchange, body)? {
            Step::Proceed(next) => body = next,
            answer @ Step::Answer(_) => return Ok(answer),
        }
    }
    Ok(Step::Proceed(body))
}

/// Leaves the filters of one place that were entered, in reverse.
fn leave(exchange: &mut Exchange, route: &Route, place: Stage, response: &mut Response<Body>) {
    let filters = stage(route, place);
    let entered = match place {
        Stage::Edge => exchange.filters_entered,
        Stage::Origin => exchange.filters_entered.saturating_sub(stage(route, Stage::Edge).len()),
    };
    for (_, filter) in filters[..entered.min(filters.len())].iter().rev() {
        *response = filter.response(exchange, std::mem::take(response));
    }
}

/// The route's filters of one place: edge filters stand first.
fn stage(route: &Route, place: Stage) -> &[(Stage, Arc<dyn Filter>)] {
    let (edge, origin) = route.filters.split_at(route.filters.partition_point(|(at, _)| *at == Stage::Edge));
    match place {
        Stage::Edge => edge,
        Stage::Origin => origin,
    }
}

/// Waits, but not past the request's deadline: what comes then is said by whoever finds it passed.
async fn wait(exchange: &Exchange, delay: Duration) {
    let due = exchange.begun.elapsed() + delay;
    let due = exchange.begun + exchange.timeout.map_or(due, |timeout| timeout.min(due));
    Box::pin(tokio::time::sleep_until(due.into())).await;
}

fn answered(exchange: &mut Exchange, response: Response<Body>) -> Descent {
    exchange.local_response = true;
    Descent::Answered(response)
}
