//! The messages of a gRPC stream ("Length-Prefixed-Message" of gRPC over HTTP/2), and the limit on their length.
//!
//! A gRPC call may carry any number of messages, so a limit on the whole body would end long calls. Where the form of the
//! messages is enforced, the limit holds for each message instead.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::fault::{Fault, FaultKind};

/// The bytes before each message: one that says whether it is compressed, and four with its length.
const PREFIX: usize = 5;

/// The same body, which fails where it is no sequence of complete gRPC messages of at most `limit` bytes each. It keeps no
/// byte back. The error is a boxed [`Fault`] of kind `BodyTooLarge` as soon as a prefix announces a message over the
/// limit, or `BadRequest` where a prefix is not valid or the body ends within a message.
pub fn enforced(body: Body, limit: u64) -> Body {
    match body.is_end_stream() {
        true => body,
        false => Body::wrap(Enforced { body, messages: Messages::new(limit) }),
    }
}

/// A body whose messages are followed.
struct Enforced {
    body: Body,
    messages: Messages,
}

impl Enforced {
    /// Follows a frame; `None` is the end of the body.
    fn follow(&mut self, frame: Option<&Frame<Bytes>>) -> Result<(), Fault> {
        match frame.and_then(Frame::data_ref) {
            Some(data) => {
                self.messages.follow(data)?;
                // A reader need not ask again after the last piece.
                if self.body.is_end_stream() { self.messages.end() } else { Ok(()) }
            }
            None => self.messages.end(),
        }
    }
}

impl HttpBody for Enforced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?;
        let followed = self.follow(frame.as_ref());
        Poll::Ready(match followed {
            Ok(()) => frame.map(Ok),
            Err(fault) => Some(Err(Box::new(fault))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Follows the messages of one stream. It keeps at most the prefix of a message, never its content.
struct Messages {
    /// The most bytes of a message.
    limit: u64,
    prefix: [u8; PREFIX],
    /// How many bytes of the prefix have been read.
    read: usize,
    /// How many bytes of the current message are missing.
    missing: u64,
}

impl Messages {
    /// A stream that has not begun, whose messages may have this many bytes each.
    fn new(limit: u64) -> Self {
        Messages { limit, prefix: [0; PREFIX], read: 0, missing: 0 }
    }

    /// Follows the next bytes of the stream.
    ///
    /// # Errors
    /// `BodyTooLarge` as soon as a prefix announces a message over the limit; `BadRequest` if a prefix is not valid.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let content = usize::try_from(self.missing).unwrap_or(usize::MAX).min(bytes.len());
            self.missing -= content as u64;
            bytes = &bytes[content..];
            let more = (PREFIX - self.read).min(bytes.len());
            self.prefix[self.read..self.read + more].copy_from_slice(&bytes[..more]);
            self.read += more;
            bytes = &bytes[more..];
            if self.read == PREFIX {
                self.read = 0;
                self.missing = self.length()?;
            }
        }
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// `BadRequest` if it ended within a message.
    fn end(&self) -> Result<(), Fault> {
        match self.read == 0 && self.missing == 0 {
            true => Ok(()),
            false => Err(malformed("the stream ends within a gRPC message")),
        }
    }

    /// The length that the prefix announces.
    fn length(&self) -> Result<u64, Fault> {
        let [compressed, length @ ..] = self.prefix;
        if compressed > 1 {
            return Err(malformed("the body is not a sequence of gRPC messages"));
        }
        let length = u64::from(u32::from_be_bytes(length));
        if length > self.limit {
            let detail =
                format!("a gRPC message has {length} bytes; the limit is {} for each message", self.limit);
            return Err(Fault::new(FaultKind::BodyTooLarge).detail(detail));
        }
        Ok(length)
    }
}

fn malformed(detail: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest).detail(detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of so many bytes with its prefix.
    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(PREFIX + length as usize, b'x');
        bytes
    }

    /// The outcome of a stream that arrives in pieces of this size.
    fn followed(stream: &[u8], piece: usize) -> Result<(), FaultKind> {
        let mut messages = Messages::new(8);
        let read = stream.chunks(piece).try_for_each(|bytes| messages.follow(bytes));
        read.and_then(|()| messages.end()).map_err(|fault| fault.kind)
    }

    #[test]
    fn the_limit_is_for_each_message_and_the_form_is_enforced() {
        for piece in [1, 2, 3, 5, 7, 64] {
            let many = message(8).repeat(100);
            assert_eq!(followed(&many, piece), Ok(()));
            assert_eq!(followed(&[message(0), message(8)].concat(), piece), Ok(()));
            assert_eq!(followed(&[message(8), message(9)].concat(), piece), Err(FaultKind::BodyTooLarge));
            assert_eq!(followed(&message(8)[..12], piece), Err(FaultKind::BadRequest));
            assert_eq!(followed(&message(8)[..3], piece), Err(FaultKind::BadRequest));
            assert_eq!(followed(b"this is no gRPC at all", piece), Err(FaultKind::BadRequest));
        }
    }

    #[test]
    fn a_message_is_refused_before_its_content() {
        let mut messages = Messages::new(8);
        let fault = messages.follow(&message(9)[..PREFIX]).expect_err("over the limit");
        assert_eq!(fault.kind, FaultKind::BodyTooLarge);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(stream in proptest::collection::vec(any::<u8>(), 0..64), piece in 1usize..16) {
            prop_assert_eq!(followed(&stream, piece), followed(&stream, 64));
        }
    }
}
