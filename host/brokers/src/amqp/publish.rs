//! Publishing with confirms.
//!
//! A channel has one message under way at a time. A broker names the message that it returns as unroutable by nothing but
//! the order of its frames, and it closes the whole channel for a missing exchange; with one message a channel, both concern
//! exactly that message.

use std::cell::RefCell;
use std::collections::BTreeSet;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, Error, ErrorKind};
use tokio::sync::Semaphore;
use witgate_exchange::contracts::broker::{Outgoing, PublishFailure};

use super::message;

/// The most channels of a connection. RabbitMQ allows 2047 by default.
const MOST_CHANNELS: usize = 256;

/// The most queues whose durability is remembered.
const MOST_CHECKED: usize = 1000;

/// The channels of a connection on which messages are published.
pub(super) struct Channels {
    idle: RefCell<Vec<Channel>>,
    permits: Semaphore,
    /// Queues of the default exchange that were checked.
    checked: RefCell<BTreeSet<String>>,
}

impl Default for Channels {
    fn default() -> Self {
        let (idle, checked) = (RefCell::default(), RefCell::default());
        Channels { idle, permits: Semaphore::new(MOST_CHANNELS), checked }
    }
}

impl Channels {
    /// Publishes a message and waits for the confirm.
    pub(super) async fn publish(
        &self,
        connection: &Connection,
        message: Outgoing,
    ) -> Result<(), PublishFailure> {
        let properties = message::properties(&message).map_err(PublishFailure::Refused)?;
        let gone = |error: Error| PublishFailure::Unreachable(error.to_string());
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let channel = self.idle.borrow_mut().pop().filter(|channel| channel.status().connected());
        let channel = match channel {
            Some(channel) => channel,
            None => open(connection).await.map_err(gone)?,
        };
        let key = message.key.as_deref().unwrap_or_default();
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let published =
            channel.basic_publish(message.to.as_str().into(), key.into(), options, &message.body, properties);
        let confirm = match published.await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        let outcome = judge(confirm);
        if channel.status().connected() {
            self.idle.borrow_mut().push(channel);
        }
        outcome
    }

    /// Says so if a queue to which the default exchange leads is not durable. Called once for each queue.
    pub(super) async fn transient(&self, connection: &Connection, queue: &str) -> Option<String> {
        {
            let mut checked = self.checked.borrow_mut();
            if checked.len() >= MOST_CHECKED || !checked.insert(queue.to_owned()) {
                return None;
            }
        }
        is_transient(connection, queue).await.then(|| {
            format!(
                "the queue `{queue}` is not durable: what it has confirmed is lost when the broker restarts"
            )
        })
    }
}

/// Opens a channel with confirms.
async fn open(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn judge(confirm: Result<Confirmation, Error>) -> Result<(), PublishFailure> {
    match confirm {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(Confirmation::Ack(Some(returned))) => {
            Err(PublishFailure::Unroutable(returned.reply_text.to_string()))
        }
        Ok(Confirmation::Nack(_)) => Err(PublishFailure::Refused("the broker did not take it".to_owned())),
        Ok(Confirmation::NotRequested) => Err(PublishFailure::Lost("the channel has no confirms".to_owned())),
        Err(error) => Err(failure(&error)),
    }
}

/// What the end of the channel says of its only message.
fn failure(error: &Error) -> PublishFailure {
    let why = error.to_string();
    match error.kind() {
        ErrorKind::ProtocolError(told) => match told.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => PublishFailure::Unroutable(why),
            AMQPErrorKind::Soft(_) => PublishFailure::Refused(why),
            AMQPErrorKind::Hard(_) => PublishFailure::Lost(why),
        },
        _ => PublishFailure::Lost(why),
    }
}

/// Whether an existing queue is not durable. A declaration that says otherwise is refused by the broker, and changes nothing.
pub(super) async fn is_transient(connection: &Connection, queue: &str) -> bool {
    let declare = async |passive, durable| {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { passive, durable, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        // Whatever fails here, the channel is not used any more.
        let _ = channel.close(200, "checked".into()).await;
        Ok::<(), Error>(())
    };
    // Only a queue that exists is asked about, so that none is created.
    declare(true, true).await.is_ok()
        && declare(false, true).await.is_err_and(|error| error.to_string().contains("'durable'"))
}
