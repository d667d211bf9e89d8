//! Consuming from a stream.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{AckKind, Context};
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc::unbounded_channel;
use witgate_exchange::contracts::broker::{Delivery, Settle, Settlement};

use super::message;
use crate::link::Feed;

/// The longest that one request for messages waits at the broker.
const REQUEST: Duration = Duration::from_secs(5);

/// The time for an acknowledgement of a consumer that is created. It is extended while a request is in progress.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// What a consumer says of its stream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceSettings {
    /// Where a durable consumer begins that does not exist yet. One that exists goes on where it is.
    start: Start,
    /// Name of the durable consumer at the broker. Without it, that of the consumer.
    durable: Option<String>,
    /// Only messages of this subject, which may have wildcards. Without it, all of the stream.
    subject: Option<String>,
}

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Start {
    /// With the first message of the stream.
    Earliest,
    /// With the next message that is published.
    Latest,
}

/// The durable consumer, which is created if it does not exist.
async fn durable(context: &Context, feed: &Feed) -> Result<PullConsumer, String> {
    let subscription = &feed.subscription;
    let settings = subscription.settings.parse::<SourceSettings>();
    let settings = settings.map_err(|_| "its settings were not checked".to_owned())?;
    let stream = context.get_stream_no_info(&subscription.from).await.map_err(|error| error.to_string())?;
    let name = settings.durable.unwrap_or_else(|| subscription.consumer.to_string());
    let config = pull::Config {
        durable_name: Some(name.clone()),
        deliver_policy: match settings.start {
            Start::Earliest => DeliverPolicy::All,
            Start::Latest => DeliverPolicy::New,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // The gateway counts, so that a message with too many deliveries goes to the dead letter and is not lost.
        max_deliver: -1,
        max_ack_pending: i64::try_from(subscription.prefetch).unwrap_or(i64::MAX),
        filter_subject: settings.subject.unwrap_or_default(),
        ..pull::Config::default()
    };
    stream.get_or_create_consumer(&name, config).await.map_err(|error| error.to_string())
}

/// Fetches until the consumer is stopped and its last message is settled.
///
/// # Errors
/// Why the stream cannot be consumed from any more.
pub(super) async fn run(context: &Context, feed: &Feed) -> Result<(), String> {
    let consumer = durable(context, feed).await?;
    feed.report(None);
    let mut extension =
        tokio::time::interval((consumer.cached_info().config.ack_wait / 3).max(Duration::from_millis(100)));
    let (settle, mut settled) = unbounded_channel::<(u64, Settlement)>();
    let mut unsettled: HashMap<u64, Acker> = HashMap::new();
    let (mut next, mut fetching, mut batch) = (0, true, None);
    while fetching || !unsettled.is_empty() {
        let room = feed.subscription.prefetch - unsettled.len();
        if fetching && batch.is_none() && room > 0 {
            let request = consumer.batch().max_messages(room).expires(REQUEST).messages().await;
            batch = Some(request.map_err(|error| error.to_string())?);
        }
        tokio::select! {
            // The end first, so that what is given back is not delivered here again.
            biased;
            () = feed.stopped(), if fetching => {
                // What the broker has sent and was not delivered comes again after the time for an acknowledgement.
                (fetching, batch) = (false, None);
            }
            // Never `None`: `settle` is held here.
            Some((number, how)) = settled.recv() => {
                let Some(acker) = unsettled.remove(&number) else { continue };
                let kind = match how {
                    Settlement::Acknowledged => AckKind::Ack,
                    Settlement::Again(after) => AckKind::Nak(Some(after)),
                    Settlement::Returned => AckKind::Nak(None),
                };
                acker.ack_with(kind).await.map_err(|error| error.to_string())?;
            }
            _ = extension.tick() => {
                for acker in unsettled.values() {
                    acker.ack_with(AckKind::Progress).await.map_err(|error| error.to_string())?;
                }
            }
            message = async { batch.as_mut()?.next().await }, if batch.is_some() => match message {
                Some(message) => {
                    let message = message.map_err(|error| error.to_string())?;
                    let read = message::incoming(&message);
                    let (_, acker) = message.split();
                    feed.shared.counters.deliver(&read);
                    next += 1;
                    unsettled.insert(next, acker);
                    let (settle, number) = (settle.clone(), next);
                    // If nobody listens any more, the connection is gone, and the broker delivers the message again.
                    let settle = Settle::new(move |how| {
                    let _ = settle.send((number, how));
                });
                    feed.sink.deliver(Delivery { message: read, settle });
                }
                None => batch = None,
            },
        }
    }
    Ok(())
}
