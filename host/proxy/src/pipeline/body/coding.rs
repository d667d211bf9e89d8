//! Decodes content codings (RFC 9110 section 8.4.1), so that plugins see the content itself.
//!
//! The ratio of decoded to encoded bytes is limited, and memory does not grow with what a sender declares (RFC
//! 9659 for zstd). Several codings at once and unknown ones are refused.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncRead;
use tokio_util::io::{StreamReader, poll_read_buf};

use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::Fault;

/// The most decoded bytes for each encoded byte.
const RATIO: u64 = 200;
/// Decoded bytes that are allowed whatever the ratio is, so that short and repetitive content passes.
const FLOOR: u64 = 256 * 1024;
/// Bytes that are decoded at once.
const CHUNK: usize = 16 * 1024;
/// The largest zstd window, 8 MiB (RFC 9659 section 3).
const ZSTD_WINDOW_LOG: u32 = 23;

/// A coding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Brotli,
    Zstd,
}

impl fmt::Display for Coding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        })
    }
}

impl Coding {
    /// The coding of this name; `None` if it is unknown.
    pub(super) fn of(name: &[u8]) -> Option<Coding> {
        let known: [(&[u8], Coding); 5] = [
            (b"identity", Coding::Identity),
            (b"gzip", Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
            (b"br", Coding::Brotli),
            (b"zstd", Coding::Zstd),
        ];
        known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, coding)| coding)
    }

    /// The coding of a message; `None` if it is unknown or if there are several.
    pub(super) fn of_message(headers: &HeaderMap) -> Option<Coding> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        match (values.next(), values.next()) {
            (None, _) => Some(Coding::Identity),
            (Some(value), None) => Coding::of(value.as_bytes().trim_ascii()),
            _ => None,
        }
    }

    /// The decoded content of a body. An error of the body itself is passed on; `refuse` makes the fault for a body that is
    /// not in this coding, from the reason.
    pub(super) fn undo(self, body: Body, refuse: impl Fn(Undecodable) -> Fault + 'static) -> Body {
        let passed = Rc::new(Passed::default());
        let source = StreamReader::new(Source { body, passed: Rc::clone(&passed) });
        let reader: Pin<Box<dyn AsyncRead>> = match self {
            Coding::Identity => return source.into_inner().body,
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(source);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Coding::Brotli => {
                let mut decoder = BrotliDecoder::new(source);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Coding::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG);
                let mut decoder = ZstdDecoder::with_params(source, &[window]);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        };
        Body::wrap(Decoded { reader, passed, produced: 0, ended: false, refuse: Box::new(refuse) })
    }
}

/// Why a body cannot be decoded.
pub(super) enum Undecodable {
    /// It is not in the coding, or it ends too early.
    Malformed(io::Error),
    /// Its content is out of proportion to its coded form.
    TooLarge,
}

/// An error of the body itself, on its way through a decoder.
#[derive(Debug)]
struct BodyFailed(BodyError);

impl fmt::Display for BodyFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Error for BodyFailed {}

/// The number of encoded bytes and the trailers that were read so far.
#[derive(Default)]
struct Passed {
    bytes: Cell<u64>,
    trailers: RefCell<Option<HeaderMap>>,
}

/// The encoded bytes of a body, which a decoder reads.
struct Source {
    body: Body,
    passed: Rc<Passed>,
}

impl Stream for Source {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(BodyFailed(error))))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.passed.bytes.set(self.passed.bytes.get() + data.len() as u64);
                    return Poll::Ready(Some(Ok(data)));
                }
                Err(frame) => *self.passed.trailers.borrow_mut() = frame.into_trailers().ok(),
            }
        }
    }
}

/// The content of a body, which is decoded as it is read.
struct Decoded {
    reader: Pin<Box<dyn AsyncRead>>,
    passed: Rc<Passed>,
    produced: u64,
    ended: bool,
    refuse: Box<dyn Fn(Undecodable) -> Fault>,
}

impl HttpBody for Decoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if !this.ended {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            match ready!(poll_read_buf(this.reader.as_mut(), context, &mut chunk)) {
                // An empty body is in no coding, whatever the head declares: it is empty, and not cut off.
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && this.passed.bytes.get() == 0 =>
                {
                    this.ended = true;
                }
                Err(error) => {
                    return Poll::Ready(Some(Err(body_failure(error)
                        .unwrap_or_else(|error| Box::new((this.refuse)(Undecodable::Malformed(error)))))));
                }
                Ok(0) => this.ended = true,
                Ok(read) => {
                    this.produced += read as u64;
                    if this.produced > FLOOR && this.produced / RATIO > this.passed.bytes.get() {
                        return Poll::Ready(Some(Err(Box::new((this.refuse)(Undecodable::TooLarge)))));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))));
                }
            }
        }
        Poll::Ready(this.passed.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

/// The error of the body itself, or else that of the decoder.
fn body_failure(error: io::Error) -> Result<BodyError, io::Error> {
    error.downcast::<BodyFailed>().map(|BodyFailed(error)| error)
}
