//! The gate contract: whether a request is let in at all.
//!
//! Gates are called in the configured order, before authentication, and see the head and the client. The first that
//! answers ends the request. The answers of a gate that declares its inputs are remembered, responses included.

use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::{Call, Function, LocalResponse};
use witgate_exchange::fault::Fault;

use crate::pipeline::call;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::remembered::{Question, Rememberable};
use crate::pipeline::validate::{self, Invalid};
use crate::router::Route;

/// Asks every gate; returns the response of the first that answers.
///
/// # Errors
/// `PluginFailed`.
pub(super) async fn run(exchange: &mut Exchange, route: &Route) -> Result<Option<Response<Body>>, Fault> {
    for gate in &route.gate {
        let question = Question::new(&**gate, Function::Admit, &exchange.facts.head, &exchange.snapshot);
        let answer = call::ask(
            &mut exchange.facts.record.plugins,
            question,
            || gate.admit(Call { head: &exchange.facts.head, fetch: &exchange.snapshot }),
            Outcome::check,
        );
        if let Some(outcome) = answer.await?
            && let Some(response) = outcome.response()
        {
            return Ok(Some(response));
        }
    }
    Ok(None)
}

/// The validated answer of a gate: a response, or `None` to go on.
struct Outcome(Option<Response<Bytes>>);

impl Outcome {
    fn check(answer: Option<LocalResponse>) -> Result<Self, Invalid> {
        answer.map(validate::whole_response).transpose().map(Outcome)
    }

    /// The response for one request; a remembered one is copied.
    fn response(self: Rc<Self>) -> Option<Response<Body>> {
        let Outcome(response) = Rc::try_unwrap(self).unwrap_or_else(|shared| Outcome(shared.0.clone()));
        response.map(|response| response.map(Body::from))
    }
}

impl Rememberable for Outcome {
    fn size(&self) -> usize {
        let headers = |response: &Response<Bytes>| {
            let sizes = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
            sizes.sum::<usize>() + response.body().len()
        };
        size_of::<Self>() + self.0.as_ref().map_or(0, headers)
    }
}
