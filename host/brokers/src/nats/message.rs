//! Messages as NATS has them.

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::jetstream::Message;
use bytes::Bytes;
use witgate_exchange::contracts::broker::{Incoming, Outgoing};

/// The header with the media type.
const CONTENT_TYPE: &str = "Content-Type";
/// The header with the id, by which streams recognise a repetition.
const ID: &str = "Nats-Msg-Id";
/// The header with the key, since NATS has none.
const KEY: &str = "Witgate-Key";

/// The headers of a message that is published.
///
/// # Errors
/// What of it NATS cannot hold.
pub(super) fn headers(message: &Outgoing) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &[u8]| {
        let refused = || format!("the header {name:?} has bytes that NATS cannot hold");
        let named = name.parse::<HeaderName>().map_err(|_| refused())?;
        let value = std::str::from_utf8(value).ok().and_then(|value| value.parse::<HeaderValue>().ok());
        headers.append(named, value.ok_or_else(refused)?);
        Ok::<(), String>(())
    };
    for (name, value) in &message.headers {
        // The broker acts by its own headers, so that only the gateway may set them.
        if !name.to_ascii_lowercase().starts_with("nats-") {
            add(name, value)?;
        }
    }
    if let Some(kind) = &message.content_type {
        add(CONTENT_TYPE, kind.as_bytes())?;
    }
    if let Some(key) = &message.key {
        add(KEY, key.as_bytes())?;
    }
    Ok(headers)
}

/// The message of a delivery.
pub(super) fn incoming(message: &Message) -> Incoming {
    let info = message.info().ok();
    let deliveries = info.as_ref().map_or(0, |info| info.delivered.saturating_sub(1));
    let deliveries = u32::try_from(deliveries).unwrap_or(0);
    let mut read = Incoming {
        id: info.map(|info| format!("{}:{}", info.stream, info.stream_sequence)),
        body: Some(message.payload.clone()),
        deliveries,
        redelivered: deliveries > 0,
        ..Incoming::default()
    };
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        for value in values {
            let value = value.as_str();
            if name.eq_ignore_ascii_case(ID) {
                read.id = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case(KEY) {
                read.key = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case(CONTENT_TYPE) {
                read.content_type = Some(value.to_owned());
            } else {
                read.headers.push((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())));
            }
        }
    }
    read
}
