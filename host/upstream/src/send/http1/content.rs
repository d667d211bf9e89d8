//! The body of a response, according to the framing in its head (RFC 9112 section 6.3).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use witgate_wire::http1::chunks::ChunkReader;

use super::answer::TrailerReader;

/// The part of a body that is still to come.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing: the body is complete.
    Over,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked(ChunkReader),
    /// The trailers after the last chunk.
    Trailers(Box<TrailerReader>),
    /// Trailers that have arrived.
    Ended(Box<HeaderMap>),
    /// All bytes until the endpoint closes the connection.
    UntilClose,
}

impl Content {
    pub(crate) fn length(length: u64) -> Self {
        if length == 0 { Content::Over } else { Content::Length(length) }
    }

    pub(crate) fn chunked() -> Self {
        Content::Chunked(ChunkReader::default())
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Content::Over)
    }

    /// The number of bytes to come, if it is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Content::Over => Some(0),
            Content::Length(left) => Some(*left),
            _ => None,
        }
    }

    /// Takes the next frame out of what has arrived, with the framing before and after it. `None` if more bytes
    /// are needed or the body is complete.
    ///
    /// # Errors
    /// What is malformed in the chunks or the trailers.
    pub(crate) fn next(&mut self, arrived: &mut BytesMut) -> Result<Option<Frame<Bytes>>, &'static str> {
        self.advance(arrived)?;
        let data = match self {
            Content::Ended(trailers) => {
                let trailers = std::mem::take(&mut **trailers);
                *self = Content::Over;
                return Ok(Some(Frame::trailers(trailers)));
            }
            Content::Length(left) => {
                let data = split(arrived, *left);
                *self = Content::length(*left - data.len() as u64);
                data
            }
            Content::Chunked(reader) => {
                let data = split(arrived, reader.data());
                reader.take(data.len() as u64);
                data
            }
            Content::UntilClose => split(arrived, u64::MAX),
            Content::Trailers(_) | Content::Over => Bytes::new(),
        };
        // If the end has arrived together with the last data, it is processed at once.
        self.advance(arrived)?;
        Ok((!data.is_empty()).then(|| Frame::data(data)))
    }

    /// Skips the framing between data.
    fn advance(&mut self, arrived: &mut BytesMut) -> Result<(), &'static str> {
        while !arrived.is_empty() {
            match self {
                Content::Chunked(reader) if reader.data() == 0 => {
                    arrived.advance(reader.frame(arrived)?);
                    if reader.is_in_trailers() {
                        *self = Content::Trailers(Box::default());
                    }
                }
                Content::Trailers(reader) => {
                    let Some(trailers) = reader.read(arrived)? else { break };
                    *self = match trailers.is_empty() {
                        true => Content::Over,
                        false => Content::Ended(Box::new(trailers)),
                    };
                }
                _ => break,
            }
        }
        Ok(())
    }
}

fn split(arrived: &mut BytesMut, most: u64) -> Bytes {
    if arrived.is_empty() {
        // Splitting off an empty part would cost an allocation.
        return Bytes::new();
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    arrived.split_to(most.min(arrived.len())).freeze()
}
