//! Publishing: the request becomes a message of a broker.
//!
//! Choose it where the caller must know only that the work is stored, not that it is done. The response is 202 with the
//! message's id, once the broker has confirmed. Every fault says whether the message was not stored, or may have been.

mod message;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use witgate_config::model::{self, Action};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::broker::{Broker, Outgoing, PublishFailure, Room, Window};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};

use super::{BuildInputs, Built, Destination, DestinationKind, Mistake, shared};
pub(crate) use message::new_id;
use target::Target;

pub(super) const ROW: DestinationKind =
    DestinationKind { kind: "publish", summary: "the request becomes a message of a broker", build };

/// The wait that a client is told when there is no room, in seconds. Room is given back with every confirm.
const ROOM_AFTER: u32 = 1;

/// The most bytes of all messages of one route that wait for their confirm, as a multiple of the broker's own limit: the
/// broker's limit decides.
const ROUTE_BYTES: usize = usize::MAX;

fn build(inputs: &BuildInputs<'_>) -> Option<Built> {
    let Action::Publish(settings) = inputs.action else { return None };
    Some(shared(Publish::compile(settings, inputs)))
}

struct Publish {
    broker: Arc<dyn Broker>,
    target: Target,
    settings: model::Publish,
    /// The room for messages of this route.
    window: Arc<Window>,
}

impl Publish {
    fn compile(settings: &model::Publish, inputs: &BuildInputs<'_>) -> Result<Self, Mistake> {
        let name = &settings.broker;
        let Some(broker) = inputs.brokers.get(name) else {
            let hint = format!("mend `brokers.{name}`");
            return Err(("publish", format!("the broker `{name}` is not in service"), hint));
        };
        if settings.ttl.is_some() && !broker.capabilities().expire {
            let hint = "leave `ttl` out, or set the age of messages at the broker".to_owned();
            return Err(("publish", format!("messages of the broker `{name}` cannot expire"), hint));
        }
        Ok(Publish {
            target: Target::compile(settings, &**broker)?,
            broker: Arc::clone(broker),
            settings: settings.clone(),
            window: Window::new(settings.max_in_flight, ROUTE_BYTES),
        })
    }

    /// Publishes the request. Returns the message's id.
    async fn publish(&self, facts: &Facts, body: Body) -> Result<String, Fault> {
        let (to, key) = self.target.fill(&facts.head, &*self.broker)?;
        let headers = message::headers(&facts.head, &self.settings.headers)?;
        let content_type = message::content_type(&facts.head)?;
        let mut rooms =
            [&self.window, self.broker.window()].map(Window::enter).into_iter().collect::<Option<Vec<_>>>();
        let Some(rooms) = rooms.as_mut() else { return Err(no_room()) };
        let body = read(body, rooms, self.broker.largest()).await?;
        let id = new_id();
        let message = Outgoing {
            id: id.clone(),
            to,
            key,
            content_type,
            headers,
            body,
            ttl: self.settings.ttl,
            rooms: std::mem::take(rooms),
        };
        let until = Instant::now() + self.settings.timeout;
        let until = facts.deadline().map_or(until, |deadline| until.min(deadline));
        confirmed(&*self.broker, message, until.saturating_duration_since(Instant::now()))
            .await
            .map_err(fault)?;
        Ok(id)
    }
}

impl Destination for Publish {
    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        MaybeReady::waiting(async move {
            let id = self.publish(facts, body).await?;
            Ok(accepted(&id))
        })
    }
}

/// Why the broker did not confirm a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unconfirmed {
    /// The broker, or the way to it, says so.
    Failed(PublishFailure),
    /// It took longer than this.
    TimedOut(Duration),
}

/// Publishes a message and waits for the broker's confirm.
///
/// # Errors
/// Why there is none.
pub(crate) async fn confirmed(
    broker: &dyn Broker,
    message: Outgoing,
    within: Duration,
) -> Result<(), Unconfirmed> {
    match tokio::time::timeout(within, broker.publish(message)).await {
        Ok(outcome) => outcome.map_err(Unconfirmed::Failed),
        Err(_) => Err(Unconfirmed::TimedOut(within)),
    }
}

/// The fault for a client whose message was not confirmed.
fn fault(why: Unconfirmed) -> Fault {
    let (kind, cause) = match why {
        Unconfirmed::Failed(PublishFailure::Unreachable(why)) => (FaultKind::BrokerUnreachable, why),
        Unconfirmed::Failed(PublishFailure::Full(why)) => return no_room().cause(why),
        Unconfirmed::Failed(PublishFailure::Refused(why)) => (FaultKind::BrokerRefused, why),
        Unconfirmed::Failed(PublishFailure::Unroutable(why)) => (FaultKind::MessageUnroutable, why),
        Unconfirmed::Failed(PublishFailure::Lost(why)) => (FaultKind::BrokerLost, why),
        Unconfirmed::TimedOut(within) => (FaultKind::BrokerTimeout, format!("no confirm within {within:?}")),
    };
    Fault::new(kind).cause(cause)
}

fn no_room() -> Fault {
    Fault::new(FaultKind::BrokerOverloaded).header(RETRY_AFTER, HeaderValue::from(ROOM_AFTER))
}

/// Reads a body whole. It takes room while it grows, so that no more than the room is ever in memory.
async fn read(mut body: Body, rooms: &mut [Room], largest: usize) -> Result<Bytes, Fault> {
    let too_large =
        || Fault::new(FaultKind::MessageTooLarge).detail(format!("the broker takes {largest} bytes"));
    if http_body::Body::size_hint(&body).lower() > largest as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let mut first = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(error) => Fault::new(FaultKind::ClientGone).cause(error.to_string()),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let length = first.as_ref().map_or(whole.len(), Bytes::len);
        if length + data.len() > largest {
            return Err(too_large());
        }
        if !rooms.iter_mut().all(|room| room.grow(data.len())) {
            return Err(no_room());
        }
        // A body that came in one piece is not copied.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(begun) => {
                whole.extend_from_slice(&begun);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// The response for a message that the broker has.
fn accepted(id: &str) -> Response<Body> {
    let document = Bytes::from(format!("{{\"id\":\"{id}\"}}\n"));
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
    *response.body_mut() = Body::from(document);
    response
}
