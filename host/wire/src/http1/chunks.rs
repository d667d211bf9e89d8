//! A strict reader of chunked bodies (RFC 9112 section 7.1): no bare LF, no line folding, no white space before a size.
//! Extensions and white space after a size are parsed by their grammar and dropped, as section 7.1.1 demands: they
//! belong to one hop, and no extension is in use here.

use bytes::Bytes;
use http::HeaderMap;
use witgate_config::model::Limits;

use super::field::{self, is_value};
use super::head::is_token;

/// Follows a chunked body (RFC 9112 section 7.1) to its end.
#[derive(Debug)]
pub struct ChunkReader {
    state: Chunk,
    /// Bytes of extensions and white space that the data so far does not account for.
    surplus: u64,
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
    /// In an extension of a chunk of this size.
    Extension(u64, Extension),
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

/// The place in the extensions of a size line (RFC 9112 section 7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// In white space after the size or after a value.
    Blank,
    /// Before a name.
    NameBegin,
    /// In a name.
    Name,
    /// In white space after a name.
    NameEnd,
    /// Before a value.
    ValueBegin,
    /// In a value that is a token.
    Value,
    /// In a value that is a quoted string (RFC 9110 section 5.6.4).
    Quoted,
    /// After the backslash of a quoted pair.
    Escaped,
}

/// The most bytes of extensions and white space beyond [`EXTENSION_BYTES`] for each chunk and the length of its data. A
/// sender who wants work done for nothing sends small chunks with long extensions (CVE-2023-39326).
const SURPLUS_BYTES: u64 = 16 * 1024;

/// Bytes of extensions that every chunk may have: room for a signature.
const EXTENSION_BYTES: u64 = 16;

impl Default for ChunkReader {
    /// A reader at the beginning of a chunked body.
    fn default() -> Self {
        ChunkReader {
            state: Chunk::Size(0, 0),
            surplus: 0,
            trailers: Vec::new(),
            trailer_bytes: 0,
            trailer_fields: 0,
        }
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
            self.step_over(bytes[at])?;
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
            self.step_over(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// Whether the last chunk was read, so that only trailers and the end follow.
    pub fn is_in_trailers(&self) -> bool {
        self.state == Chunk::TrailerBegin
    }

    /// Takes the next byte of framing, and counts those of extensions.
    fn step_over(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = self.step(byte)?;
        match self.state {
            Chunk::Extension(..) => {
                self.surplus += 1;
                if self.surplus > SURPLUS_BYTES {
                    return Err("the chunk extensions are over the limit");
                }
            }
            Chunk::SizeEnd(size) => {
                self.surplus = self.surplus.saturating_sub(EXTENSION_BYTES.saturating_add(size));
            }
            _ => {}
        }
        Ok(())
    }

    fn step(&self, byte: u8) -> Result<Chunk, &'static str> {
        Ok(match (self.state, byte) {
            (Chunk::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Chunk::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Chunk::Size(size, 1..), b'\r') => Chunk::SizeEnd(size),
            (Chunk::Size(size, 1..), b';') => Chunk::Extension(size, Extension::NameBegin),
            (Chunk::Size(size, 1..), b' ' | b'\t') => Chunk::Extension(size, Extension::Blank),
            (Chunk::Extension(size, within), byte) => return extension(size, within, byte),
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

/// The step of a byte in an extension. Parsers have disagreed about where an extension ends (request smuggling), so
/// everything outside of the grammar is refused, above all a CR that no LF follows.
fn extension(size: u64, within: Extension, byte: u8) -> Result<Chunk, &'static str> {
    use Extension as E;
    let next = match (within, byte) {
        (E::Quoted, b'"') => E::Blank,
        (E::Quoted, b'\\') => E::Escaped,
        (E::Quoted | E::Escaped, b'\t' | b' '..=b'~' | 0x80..) => E::Quoted,
        (E::Blank | E::Name | E::NameEnd | E::Value, b'\r') => return Ok(Chunk::SizeEnd(size)),
        (E::Blank | E::Name | E::NameEnd | E::Value, b';') => E::NameBegin,
        (E::Name | E::NameEnd, b'=') => E::ValueBegin,
        (E::NameBegin | E::ValueBegin | E::Blank | E::NameEnd, b' ' | b'\t') => within,
        (E::Name, b' ' | b'\t') => E::NameEnd,
        (E::Value, b' ' | b'\t') => E::Blank,
        (E::ValueBegin, b'"') => E::Quoted,
        (E::NameBegin | E::Name, byte) if is_token(byte) => E::Name,
        (E::ValueBegin | E::Value, byte) if is_token(byte) => E::Value,
        _ => return Err("a chunk extension is malformed"),
    };
    Ok(Chunk::Extension(size, next))
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
            " 3\r\nabc\r\n0\r\n\r\n",
            "3 a\r\nabc\r\n0\r\n\r\n",
            "3;\r\nabc\r\n0\r\n\r\n",
            "3;=b\r\nabc\r\n0\r\n\r\n",
            "3;a=\r\nabc\r\n0\r\n\r\n",
            "3;a\nabc\r\n0\r\n\r\n",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "3;a=\"\r\nabc\r\n0\r\n\r\n",
            "3;a=\"b\r\n\"\r\nabc\r\n0\r\n\r\n",
            "3;a=\"b\"c\r\nabc\r\n0\r\n\r\n",
            "3;a b\r\nabc\r\n0\r\n\r\n",
            "3;a=\x00\r\nabc\r\n0\r\n\r\n",
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
    fn extensions_and_blanks_after_a_size_are_dropped() {
        for line in [
            "3;a=b",
            "3 ",
            "3\t \t",
            "3;a",
            "3 ; a = b ;c",
            "3;a=\"x; \\\" y\"",
            "3;a=\"\" ;b",
            "3;a=\"\u{e4}\"",
        ] {
            let body = format!("{line}\r\nabc\r\n0;last=1 \r\n\r\nGET");
            let mut reader = ChunkReader::default();
            let read = follow(&mut reader, body.as_bytes());
            assert_eq!(read, Ok((body.len() - 3, b"abc".to_vec())), "{line}");
        }
    }

    #[test]
    fn extensions_are_limited_by_the_data_that_they_come_with() {
        let chunks_with = |extension: usize, data: usize, count: usize| {
            let chunk = format!("{data:x};{}\r\n{}\r\n", "x".repeat(extension), "d".repeat(data));
            chunks(format!("{}0\r\n\r\n", chunk.repeat(count)).as_bytes())
        };
        assert!(chunks_with(85, 64 * 1024, 30).is_ok(), "signatures of an upload");
        assert!(chunks_with(85, 1, 100).is_ok());
        assert!(chunks_with(85, 1, 1000).is_err(), "small chunks with long extensions");
        assert!(chunks_with(20_000, 64 * 1024, 1).is_err(), "one long extension");
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
        fn chunks_read_the_same_however_they_arrive(text in "[0-3a;x:=\" \r\n]{0,40}", cut in 0_usize..40) {
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
