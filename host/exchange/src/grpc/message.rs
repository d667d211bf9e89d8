//! Messages of gRPC in memory ("Length-Prefixed-Message" of gRPC over HTTP/2), and the answers of which they are part.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;

use super::details::{self, Detail};
use super::{Code, GRPC_MESSAGE, GRPC_STATUS, GRPC_STATUS_DETAILS, decode_message, is_grpc};
use crate::body::{Body, BodyError};
use crate::fault::{Fault, FaultKind};

/// The bytes before each message: one that says whether it is compressed, and four with its length.
pub const PREFIX: usize = 5;

/// The most bytes of a message that is held in memory: 16 MiB, four times what gRPC's own libraries accept by default.
pub const MOST: usize = 16 << 20;

/// A message with its prefix.
pub fn framed(compressed: bool, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.extend_from_slice(&prefix(compressed, message.len() as u32));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The prefix of a message of so many bytes.
pub fn prefix(compressed: bool, length: u32) -> [u8; PREFIX] {
    let [a, b, c, d] = length.to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// A message without its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whether it is compressed, by the encoding that the header `grpc-encoding` names.
    pub compressed: bool,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The status with which a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallStatus {
    /// The code.
    pub code: Code,
    /// The message for people; may be empty.
    pub message: String,
    /// The details.
    pub details: Vec<Detail>,
}

impl CallStatus {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        CallStatus { code, message: message.into(), details: Vec::new() }
    }

    /// The status in headers or trailers, if they have one.
    pub fn among(fields: &HeaderMap) -> Option<Self> {
        Some(CallStatus {
            code: Code::read(fields.get(GRPC_STATUS)?),
            message: fields.get(GRPC_MESSAGE).map(decode_message).unwrap_or_default(),
            details: fields.get(GRPC_STATUS_DETAILS).map(details::decode).unwrap_or_default(),
        })
    }

    /// The status of an answer whose head is that of no call in progress: it consists of trailers only, or is no gRPC.
    pub fn of_head<B>(response: &Response<B>) -> Option<Self> {
        CallStatus::among(response.headers()).or_else(|| {
            let not_grpc = response.status() != StatusCode::OK || !is_grpc(response.headers());
            not_grpc.then(|| {
                let message =
                    format!("the upstream answered with status {} and no gRPC", response.status().as_u16());
                CallStatus::new(Code::of_answer(response.status()), message)
            })
        })
    }

    /// The status of an answer that ended without one.
    pub fn missing() -> Self {
        CallStatus::new(Code::UNKNOWN, "the upstream ended the call without a status")
    }
}

/// Whether a field is one that gRPC itself uses, and no metadata of the application.
pub fn is_of_protocol(name: &http::HeaderName) -> bool {
    name.as_str().starts_with("grpc-")
}

/// Reads the messages of a response.
pub struct MessageReader {
    body: Body,
    buffer: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl MessageReader {
    /// Reads the messages of this body.
    pub fn new(body: Body) -> Self {
        MessageReader { body, buffer: BytesMut::new(), trailers: None, ended: false }
    }

    /// The next message; `None` at the end of the body.
    ///
    /// # Errors
    /// `UpstreamProtocol` if a message is malformed, incomplete, or longer than [`MOST`]; or the fault with which the body
    /// broke off.
    pub async fn next(&mut self) -> Result<Option<Message>, Fault> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`MessageReader::next`].
    ///
    /// # Errors
    /// As [`MessageReader::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Message>, Fault>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if self.ended {
                return Poll::Ready(match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(malformed("the answer ends within a message")),
                });
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => self.ended = true,
                Some(Err(error)) => return Poll::Ready(Err(fault_of(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok().or(self.trailers.take()),
                },
            }
        }
    }

    /// The trailers, after the end of the body.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The status, after the end of the body.
    pub fn status(&self) -> CallStatus {
        self.trailers().and_then(CallStatus::among).unwrap_or_else(CallStatus::missing)
    }

    /// Takes a complete message out of the buffer. Memory for a message is only taken as its bytes arrive, whatever length
    /// its prefix announces.
    fn take(&mut self) -> Result<Option<Message>, Fault> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if compressed > 1 {
            return Err(malformed("the answer is not a sequence of gRPC messages"));
        }
        if length > MOST {
            return Err(malformed("a message of the answer is longer than 16 MiB"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(Message { compressed: compressed == 1, bytes: self.buffer.split_to(length).freeze() }))
    }
}

/// The fault with which a body broke off.
pub fn fault_of(error: BodyError) -> Fault {
    match error.downcast::<Fault>() {
        Ok(fault) => *fault,
        Err(error) => Fault::new(FaultKind::UpstreamReset).cause(error.to_string()),
    }
}

fn malformed(cause: &'static str) -> Fault {
    Fault::new(FaultKind::UpstreamProtocol).cause(cause)
}

/// The whole body, of at most so many bytes.
///
/// # Errors
/// `BodyTooLarge`, or the fault with which the body broke off.
pub async fn whole(mut body: Body, most: usize) -> Result<Bytes, Fault> {
    if let Body::Full(bytes) = &mut body
        && bytes.len() <= most
    {
        return Ok(std::mem::take(bytes));
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(fault_of)?.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Err(
                Fault::new(FaultKind::BodyTooLarge).detail(format!("a message may have {most} bytes here"))
            );
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The metadata of an application among trailers, each name with `prefix` before it.
pub fn metadata<'a>(
    fields: &'a HeaderMap,
    prefix: &'a str,
) -> impl Iterator<Item = (http::HeaderName, &'a HeaderValue)> {
    fields.iter().filter(|(name, _)| !is_of_protocol(name)).filter_map(move |(name, value)| {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}{name}").parse().ok()? };
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn read(bytes: &[u8]) -> Result<Vec<Message>, FaultKind> {
        testing::run(async {
            let mut reader = MessageReader::new(Body::from(Bytes::copy_from_slice(bytes)));
            let mut messages = Vec::new();
            while let Some(message) = reader.next().await.map_err(|fault| fault.kind)? {
                messages.push(message);
            }
            Ok(messages)
        })
    }

    #[test]
    fn messages_are_read_as_they_are_framed() {
        let two = [framed(false, b"one"), framed(true, b"")].concat();
        let message = |compressed, bytes| Message { compressed, bytes: Bytes::from_static(bytes) };
        assert_eq!(read(&two), Ok(vec![message(false, b"one"), message(true, b"")]));
        assert_eq!(read(b""), Ok(vec![]));
        for wrong in [&two[..4], &two[..10], b"\x02\0\0\0\0", b"\0\xff\xff\xff\xff"] {
            assert_eq!(read(wrong), Err(FaultKind::UpstreamProtocol), "{wrong:?}");
        }
    }
}
