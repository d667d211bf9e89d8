//! A body that is compressed as it streams.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_compression::Level;
use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncWrite;
use witgate_exchange::body::{Body, BodyError};

use super::Coding;

/// Output of this size is sent at once; less waits for more input, or for a pause of the upstream.
const FRAME_BYTES: usize = 16 * 1024;

/// A body that is compressed as it streams. Holds at most one piece of input and its output.
pub(super) struct Compressed {
    body: Body,
    /// `None` once it has finished.
    encoder: Option<Encoder>,
    /// Whether the encoder buffers input whose output was not taken yet.
    holds: bool,
    /// Trailers, sent after the last output of the encoder.
    trailers: Option<Frame<Bytes>>,
}

impl Compressed {
    pub(super) fn new(body: Body, coding: Coding) -> Self {
        Compressed { body, encoder: Some(Encoder::new(coding)), holds: false, trailers: None }
    }

    /// Finishes the encoding and returns the last output.
    fn finish(&mut self) -> Result<Bytes, BodyError> {
        match self.encoder.take() {
            Some(mut encoder) => encoder.finish(),
            None => Ok(Bytes::new()),
        }
    }
}

impl HttpBody for Compressed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(this.trailers.take().map(Ok));
            };
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        encoder.write(data)?;
                        this.holds = true;
                        if encoder.output().len() >= FRAME_BYTES {
                            return Poll::Ready(Some(Ok(Frame::data(encoder.take()))));
                        }
                    }
                    Err(trailers) => {
                        this.trailers = Some(trailers);
                        return Poll::Ready(Some(this.finish().map(Frame::data)));
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    this.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => return Poll::Ready(Some(this.finish().map(Frame::data))),
                Poll::Pending if this.holds => {
                    this.holds = false;
                    let flushed = encoder.flush()?;
                    if !flushed.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(flushed))));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}

/// An encoder that writes into memory, so its futures are ready at the first poll.
enum Encoder {
    Zstd(ZstdEncoder<Vec<u8>>),
    /// Boxed, because it is by far the largest.
    Brotli(Box<BrotliEncoder<Vec<u8>>>),
    Gzip(GzipEncoder<Vec<u8>>),
}

/// Evaluates the same expression for whichever encoder it is.
macro_rules! each {
    ($encoder:expr, $inner:ident => $do:expr) => {
        match $encoder {
            Encoder::Zstd($inner) => $do,
            Encoder::Brotli($inner) => {
                let $inner = &mut **$inner;
                $do
            }
            Encoder::Gzip($inner) => $do,
        }
    };
}

impl Encoder {
    /// An encoder at a level that keeps up with a network, since every response pays for it.
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Zstd => Encoder::Zstd(ZstdEncoder::with_quality(Vec::new(), Level::Precise(3))),
            Coding::Br => {
                Encoder::Brotli(Box::new(BrotliEncoder::with_quality(Vec::new(), Level::Precise(4))))
            }
            Coding::Gzip => Encoder::Gzip(GzipEncoder::with_quality(Vec::new(), Level::Precise(5))),
        }
    }

    fn write(&mut self, mut data: Bytes) -> Result<(), BodyError> {
        let mut context = Context::from_waker(Waker::noop());
        while data.has_remaining() {
            let polled = each!(self, inner => Pin::new(inner).poll_write(&mut context, &data));
            data.advance(done(polled)?);
        }
        Ok(())
    }

    /// All output so far, flushed so that the client can decode it at once.
    fn flush(&mut self) -> Result<Bytes, BodyError> {
        let mut context = Context::from_waker(Waker::noop());
        done(each!(self, inner => Pin::new(inner).poll_flush(&mut context)))?;
        Ok(self.take())
    }

    fn finish(&mut self) -> Result<Bytes, BodyError> {
        let mut context = Context::from_waker(Waker::noop());
        done(each!(self, inner => Pin::new(inner).poll_shutdown(&mut context)))?;
        Ok(self.take())
    }

    fn output(&mut self) -> &mut Vec<u8> {
        each!(self, inner => inner.get_mut())
    }

    fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.output()))
    }
}

fn done<T>(polled: Poll<std::io::Result<T>>) -> Result<T, BodyError> {
    match polled {
        Poll::Ready(result) => result.map_err(Into::into),
        Poll::Pending => Err("an encoder in memory waited".into()),
    }
}
