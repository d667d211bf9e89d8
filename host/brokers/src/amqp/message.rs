//! Messages as AMQP has them.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use witgate_exchange::contracts::broker::{Incoming, Outgoing};

/// Persistent, so that the message outlives the broker's process in a durable queue.
const PERSISTENT: u8 = 2;

/// The header in which quorum queues count the deliveries that were given back.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// The properties of a message that is published.
///
/// # Errors
/// What of it AMQP cannot hold.
pub(super) fn properties(message: &Outgoing) -> Result<BasicProperties, String> {
    let short = |what: &str, text: &str| {
        ShortString::try_new(text.to_owned()).map_err(|_| format!("{what} is longer than 255 bytes"))
    };
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(short("the name of a header", name)?, AMQPValue::LongString(value.to_vec().into()));
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short("the id", &message.id)?)
        .with_headers(headers);
    if let Some(kind) = &message.content_type {
        properties = properties.with_content_type(short("the media type", kind)?);
    }
    if let Some(ttl) = message.ttl {
        properties = properties.with_expiration(ttl.as_millis().to_string().into());
    }
    Ok(properties)
}

/// The message of a delivery.
pub(super) fn incoming(delivery: &mut Delivery) -> Incoming {
    let properties = &delivery.properties;
    let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    let mut headers = Vec::new();
    let mut deliveries = 0;
    for (name, value) in properties.headers().iter().flat_map(|table| table.inner()) {
        if name.as_str() == DELIVERY_COUNT {
            deliveries = number(value).unwrap_or(0);
        } else {
            headers.extend(bytes(value).map(|value| (name.as_str().to_owned(), value)));
        }
    }
    if let Some(coding) = properties.content_encoding() {
        headers.push(("content-encoding".to_owned(), Bytes::from(coding.as_str().to_owned())));
    }
    Incoming {
        id: text(properties.message_id()),
        key: Some(delivery.routing_key.as_str().to_owned()),
        content_type: text(properties.content_type()),
        headers,
        body: Some(Bytes::from(std::mem::take(&mut delivery.data))),
        deliveries,
        redelivered: delivery.redelivered,
    }
}

/// A value as the bytes of a header. Tables and lists, which only the broker itself sends, are none.
fn bytes(value: &AMQPValue) -> Option<Bytes> {
    Some(match value {
        AMQPValue::LongString(text) => Bytes::copy_from_slice(text.as_bytes()),
        AMQPValue::ShortString(text) => Bytes::copy_from_slice(text.as_str().as_bytes()),
        AMQPValue::Boolean(flag) => flag.to_string().into(),
        AMQPValue::Float(number) => number.to_string().into(),
        AMQPValue::Double(number) => number.to_string().into(),
        AMQPValue::Timestamp(seconds) => seconds.to_string().into(),
        AMQPValue::ByteArray(array) => Bytes::copy_from_slice(array.as_slice()),
        other => integer(other)?.to_string().into(),
    })
}

fn integer(value: &AMQPValue) -> Option<i128> {
    Some(match value {
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        _ => return None,
    })
}

fn number(value: &AMQPValue) -> Option<u32> {
    u32::try_from(integer(value)?).ok()
}
