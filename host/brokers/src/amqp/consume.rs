//! Consuming from a queue.

use std::collections::{BTreeMap, HashMap};

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use witgate_config::{Problems, Settings};
use witgate_exchange::contracts::broker::{Delivery, Settle, Settlement, Subscription};

use super::{message, publish};
use crate::link::Feed;

/// What a consumer says of its queue.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SourceSettings {
    /// Creates the queue if it does not exist. If it does, and differs from this, the consumer fails and says in what.
    /// Without it, the queue is used as it is.
    declare: Option<Declare>,
}

/// A queue.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Declare {
    /// Whether the queue outlives the broker's process.
    durable: bool,
    /// Whether only this connection may use it.
    exclusive: bool,
    /// Whether it is deleted with its last consumer.
    auto_delete: bool,
    /// The arguments as the broker knows them, such as `x-queue-type`: texts, numbers and flags.
    arguments: BTreeMap<String, Value>,
}

impl Default for Declare {
    fn default() -> Self {
        Declare { durable: true, exclusive: false, auto_delete: false, arguments: BTreeMap::new() }
    }
}

impl SourceSettings {
    /// Checks what the schema cannot say.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), Problems> {
        let arguments = self.declare.iter().flat_map(|declare| &declare.arguments);
        let wrong = arguments.filter(|(name, value)| name.len() > 255 || argument(value).is_none());
        let problems: Problems = wrong
            .map(|(name, _)| {
                let at = format!("/declare/arguments/{name}");
                settings.problem(&at, "an argument is a text, a whole number or a flag", None)
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

fn argument(value: &Value) -> Option<AMQPValue> {
    match value {
        Value::String(text) => Some(AMQPValue::LongString(text.as_str().into())),
        Value::Bool(flag) => Some(AMQPValue::Boolean(*flag)),
        Value::Number(number) => number.as_i64().map(AMQPValue::LongLongInt),
        _ => None,
    }
}

/// A queue that is consumed from.
struct Subscribed {
    channel: Channel,
    deliveries: Consumer,
    tag: String,
}

/// Begins to consume from the queue, which is declared first if that is configured.
async fn subscribe(connection: &Connection, subscription: &Subscription) -> Result<Subscribed, lapin::Error> {
    let channel = connection.create_channel().await?;
    let settings: SourceSettings = subscription.settings.parse().unwrap_or_default();
    let mut arguments = FieldTable::default();
    let options = match settings.declare {
        Some(Declare { durable, exclusive, auto_delete, arguments: named }) => {
            for (name, value) in named.iter().filter_map(|(name, value)| Some((name, argument(value)?))) {
                arguments.insert(name.as_str().into(), value);
            }
            QueueDeclareOptions { durable, exclusive, auto_delete, ..QueueDeclareOptions::default() }
        }
        None => QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() },
    };
    let from = subscription.from.as_str();
    channel.queue_declare(from.into(), options, arguments).await?;
    let prefetch = u16::try_from(subscription.prefetch).unwrap_or(u16::MAX);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let tag = format!("witgate-{:016x}", fastrand::u64(..));
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let deliveries = channel.basic_consume(from.into(), tag.as_str().into(), options, arguments).await?;
    Ok(Subscribed { channel, deliveries, tag })
}

/// Fetches until the consumer is stopped and its last message is settled.
///
/// # Errors
/// Why the queue cannot be consumed from any more.
pub(super) async fn run(connection: &Connection, feed: &Feed) -> Result<(), String> {
    let told = |error: lapin::Error| error.to_string();
    let Subscribed { channel, mut deliveries, tag } =
        subscribe(connection, &feed.subscription).await.map_err(told)?;
    feed.report(None);
    let from = &feed.subscription.from;
    if publish::is_transient(connection, from).await {
        feed.shared.note(format!(
            "the queue `{from}` is not durable: its messages are lost when the broker restarts"
        ));
    }
    let (settle, mut settled) = unbounded_channel::<(u64, Settlement)>();
    let mut unsettled: HashMap<u64, lapin::message::Delivery> = HashMap::new();
    let mut fetching = true;
    while fetching || !unsettled.is_empty() {
        tokio::select! {
            // The end first, so that what is given back is not delivered here again; then settlements, so that a stream of
            // deliveries does not delay them.
            biased;
            () = feed.stopped(), if fetching => {
                fetching = false;
                channel.basic_cancel(tag.as_str().into(), BasicCancelOptions::default()).await.map_err(told)?;
            }
            // Never `None`: `settle` is held here.
            Some((tag, how)) = settled.recv() => {
                let Some(delivery) = unsettled.remove(&tag) else { continue };
                let done = match how {
                    Settlement::Acknowledged => delivery.ack(BasicAckOptions::default()).await,
                    Settlement::Returned => {
                        delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await
                    }
                };
                done.map_err(told)?;
            }
            delivery = deliveries.next(), if fetching => {
                let mut delivery = match delivery {
                    Some(delivery) => delivery.map_err(told)?,
                    None => return Err("the broker ended the consumer, for example because the queue was deleted".to_owned()),
                };
                let message = message::incoming(&mut delivery);
                feed.shared.counters.deliver(&message);
                let (settle, number) = (settle.clone(), delivery.delivery_tag);
                unsettled.insert(number, delivery);
                // If nobody listens any more, the connection is gone, and the broker delivers the message again.
                let settle = Settle::new(move |how| {
                    let _ = settle.send((number, how));
                });
                feed.sink.deliver(Delivery { message, settle });
            }
        }
    }
    // What was fetched and not delivered goes back to the queue.
    channel.close(200, "stopped".into()).await.map_err(told)
}
