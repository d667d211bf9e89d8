//! Which endpoints are tried for one request, and how often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use tokio::time::timeout_at;

use super::Upstream;
use super::failure::blames_endpoint;
use super::request::Order;
use super::send::{Failure, exchange_with};
use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::protocol::upgrade::Stream;

/// Endpoints tried for one request, while nothing of it was sent.
const ENDPOINTS: usize = 3;

/// What is noted about an exchange for the record.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) attempts: u32,
    pub(super) begun: Option<Instant>,
    pub(super) time: Option<Duration>,
    /// The endpoint's side of a tunnel, if it answered 101.
    pub(super) switched: Option<Stream>,
}

/// Tries endpoints until one answers. Another is tried only if nothing can have reached the one before.
pub(super) async fn deliver(
    upstream: &Arc<Upstream>,
    order: &Order<'_>,
    mut body: Body,
    deadline: Option<Instant>,
    notes: &mut Notes,
) -> Result<Response<Body>, Fault> {
    let mut tried = Vec::new();
    let mut last = None;
    loop {
        let attempt = match upstream.pick(order.affinity, &tried) {
            Ok(attempt) => attempt,
            Err(fault) => return Err(last.unwrap_or(fault)),
        };
        let index = attempt.index;
        match exchange_with(attempt, order, body, deadline, notes).await {
            Ok(response) => return Ok(response),
            Err(Failure { fault, body: Some(unsent) })
                if blames_endpoint(&fault) && tried.len() + 1 < ENDPOINTS =>
            {
                tried.push(index);
                body = unsent;
                last = Some(fault);
            }
            Err(failure) => return Err(failure.fault),
        }
    }
}

/// Runs until the deadline of the whole request.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    exchange: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match deadline {
        None => exchange.await,
        Some(deadline) => timeout_at(deadline.into(), exchange)
            .await
            .unwrap_or_else(|_| Err(Fault::new(FaultKind::RequestTimeout))),
    }
}
