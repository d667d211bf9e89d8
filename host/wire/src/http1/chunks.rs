//! A strict reader of chunked bodies (RFC 9112 section 7.1): no extensions, no bare LF, no white space.

use bytes::Bytes;
use http::HeaderMap;
use witgate_config::model::Limits;

use super::field::{self, is_value};
use super::head::is_token;

/// Follows a chunked body (RFC 9112 section 7.1) to its end.
#[derive(Debug)]
pub struct ChunkReader {
    state: Chunk,
    /// The trailer lines as they arrived, up to the end of the last complete line.
    trailers: Vec<u8>,
    trailer_bytes: usize,
    trailer_fields: usize,
}

/// What one step in a chunked body found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of framing.
    pub framing: usize,
    /// Bytes of data that follow the framing.
    pub data: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In a chunk size, with its value and the number of its digits so far.
    Size(u64, u8),
    /// After the CR of a size line.
    SizeEnd(u64),
    /// In data, with this many bytes to come.
    Data(u64),
    /// Before the CR after data.
    DataCr,
    /// Before the LF after data.
    DataLf,
    /// In the trailers, at the beginning of a line.
    TrailerBegin,
    /// In the name of a trailer field.
    TrailerName,
    /// In the value of a trailer field.
    TrailerValue,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the last, empty line.
    LastLf,
    /// After the end of the body.
    Over,
}

impl Default for ChunkReader {
    /// A reader at the beginning of a chunked body.
    fn default() -> Self {
        ChunkReader { state: Chunk::Size(0, 0), trailers: Vec::new(), trailer_bytes: 0, trailer_fields: 0 }
    }
}

impl ChunkReader {
    /// Whether the body has ended.
    pub fn is_over(&self) -> bool {
        self.state == Chunk::Over
    }

    /// Reads up to the end of the first data in `bytes`.
    ///
    /// # Errors
    /// What is wrong with the framing. Neither this body nor its connection can be read any further then.
    pub fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Piece, &'static str> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            if let Chunk::Data(left) = self.state {
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                let left = left - data as u64;
                self.state = if left == 0 { Chunk::DataCr } else { Chunk::Data(left) };
                return Ok(Piece { framing: at, data });
            }
            self.state = self.step(bytes[at])?;
            self.count_trailers(limits)?;
            if matches!(self.state, Chunk::TrailerName | Chunk::TrailerValue | Chunk::TrailerLf) {
                self.trailers.push(bytes[at]);
            }
            at += 1;
        }
        Ok(Piece { framing: at, data: 0 })
    }

    /// The trailers of a body that has ended; `None` if it has none.
    ///
    /// # Errors
    /// A trailer line is not a valid field.
    pub fn trailers(&mut self) -> Result<Option<HeaderMap>, &'static str> {
        let bytes = Bytes::from(std::mem::take(&mut self.trailers));
        let mut trailers = HeaderMap::new();
        for line in bytes.split(|byte| *byte == b'\r').filter(|line| !line.is_empty()) {
            let (name, text) = field::of(line).map_err(|_| "a trailer is malformed")?;
            let value = field::value(bytes.slice_ref(text)).ok_or("a trailer is malformed")?;
            trailers.append(name, value);
        }
        Ok(Some(trailers).filter(|trailers| !trailers.is_empty()))
    }

    /// How many bytes of data come next; 0 if framing comes next.
    pub fn data(&self) -> u64 {
        match self.state {
            Chunk::Data(left) => left,
            _ => 0,
        }
    }

    /// Skips `bytes` of data, at most [`ChunkReader::data`].
    pub fn take(&mut self, bytes: u64) {
        if let Chunk::Data(left) = self.state {
            let left = left.saturating_sub(bytes);
            self.state = if left == 0 { Chunk::DataCr } else { Chunk::Data(left) };
        }
    }

    /// Reads the framing up to the next data or to the trailers, and returns its length in bytes.
    ///
    /// # Errors
    /// As [`ChunkReader::read`].
    pub fn frame(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() && self.data() == 0 && !self.is_in_trailers() {
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// Whether the last chunk was read, so that only trailers and the end follow.
    pub fn is_in_trailers(&self) -> bool {
        self.state == Chunk::TrailerBegin
    }

    fn step(&self, byte: u8) -> Result<Chunk, &'static str> {
        Ok(match (self.state, byte) {
            (Chunk::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Chunk::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Chunk::Size(size, 1..), b'\r') => Chunk::SizeEnd(size),
            // No extension is in use, and parsers have disagreed about where one ends (request smuggling).
            (Chunk::Size(_, 1..), b';') => return Err("chunk extensions are not accepted"),
            (Chunk::Size(..), _) => return Err("a chunk size is malformed"),
            (Chunk::SizeEnd(0), b'\n') => Chunk::TrailerBegin,
            (Chunk::SizeEnd(size), b'\n') => Chunk::Data(size),
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::Size(0, 0),
            (Chunk::DataCr | Chunk::DataLf | Chunk::SizeEnd(_), _) => {
                return Err("a chunk does not end where it said");
            }
            (Chunk::TrailerBegin, b'\r') => Chunk::LastLf,
            (Chunk::TrailerBegin | Chunk::TrailerName, byte) if is_token(byte) => Chunk::TrailerName,
            (Chunk::TrailerName, b':') => Chunk::TrailerValue,
            (Chunk::TrailerValue, b'\r') => Chunk::TrailerLf,
            (Chunk::TrailerValue, byte) if is_value(byte) => Chunk::TrailerValue,
            (Chunk::TrailerLf, b'\n') => Chunk::TrailerBegin,
            (Chunk::LastLf, b'\n') => Chunk::Over,
            _ => return Err("a trailer is malformed"),
        })
    }

    fn count_trailers(&mut self, limits: &Limits) -> Result<(), &'static str> {
        match self.state {
            Chunk::TrailerName | Chunk::TrailerValue => self.trailer_bytes += 1,
            Chunk::TrailerLf => {
                self.trailer_bytes += 32;
                self.trailer_fields += 1;
            }
            _ => return Ok(()),
        }
        if self.trailer_bytes > limits.header_bytes || self.trailer_fields > limits.headers {
            return Err("the trailers are over the limit");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use witgate_exchange::testing::limits;

    use super::*;

    /// Reads a chunked body: how many bytes belong to it, and whether it has ended.
    fn chunks(bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut reader = ChunkReader::default();
        let (read, _) = follow(&mut reader, bytes)?;
        Ok((read, reader.is_over()))
    }

    /// Continues to read a body: how many bytes belong to it, and its data.
    fn follow(reader: &mut ChunkReader, bytes: &[u8]) -> Result<(usize, Vec<u8>), &'static str> {
        let (mut at, mut data) = (0, Vec::new());
        while at < bytes.len() && !reader.is_over() {
            let piece = reader.read(&bytes[at..], &limits())?;
            at += piece.framing;
            data.extend(&bytes[at..at + piece.data]);
            at += piece.data;
        }
        Ok((at, data))
    }

    #[test]
    fn chunks_end_where_they_say() {
        assert_eq!(chunks(b"3\r\nabc\r\n0\r\n\r\nGET"), Ok((13, true)));
        assert_eq!(chunks(b"00A\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n"), Ok((32, true)));
        assert_eq!(chunks(b"3\r\nab"), Ok((5, false)));
        for broken in [
            "3\nabc\r\n0\r\n\r\n",
            "3;a=b\r\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "\r\nabc",
            "-1\r\n",
            "0x3\r\nabc",
            "FFFFFFFFFFFFFFFFF\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "0\r\nx y: 1\r\n\r\n",
            "0\r\n x: 1\r\n\r\n",
            "0\r\nx: a\x00\r\n\r\n",
            "0\r\nx: a\n\r\n",
            "0\r\n\n",
        ] {
            assert!(chunks(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn trailers_are_read_and_data_is_told_from_framing() {
        let mut reader = ChunkReader::default();
        let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1 \r\nx-empty:\r\n\r\nGET";
        let (read, data) = follow(&mut reader, body).expect("a good body");
        assert_eq!((read, &data[..]), (body.len() - 3, &b"abcde"[..]));
        let trailers = reader.trailers().expect("good trailers").expect("trailers");
        assert_eq!((&trailers["x-sum"], &trailers["x-empty"]), (&"1".parse().unwrap(), &"".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn chunks_read_the_same_however_they_arrive(text in "[0-3a;x:\r\n]{0,40}", cut in 0_usize..40) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let whole = {
                let mut reader = ChunkReader::default();
                follow(&mut reader, bytes).map(|(read, data)| (read, data, reader.is_over()))
            };
            let mut reader = ChunkReader::default();
            let pieces = follow(&mut reader, &bytes[..cut]).and_then(|(first, mut data)| {
                let (second, more) = if first == cut { follow(&mut reader, &bytes[cut..])? } else { (0, Vec::new()) };
                data.extend(more);
                Ok((first + second, data, reader.is_over()))
            });
            prop_assert_eq!(whole, pieces);
        }
    }
}
