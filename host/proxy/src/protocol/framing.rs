//! A strict reading of HTTP/1.1 framing (RFC 9112), ahead of hyper.
//!
//! hyper is liberal where smuggling lives: it takes lines that end in a bare LF, drops `Content-Length` where there is
//! `Transfer-Encoding` too, takes repeated equal lengths, unknown codings before `chunked`, chunk extensions. So every
//! head and every chunk header passes here first, byte by byte, and whatever two servers could read in two ways is
//! refused. Nothing here allocates, waits or knows of sockets: [`super::wire`] feeds it.

use witgate_config::model::Limits;

use crate::fault::{Fault, FaultKind};

/// Longer targets do not fit hyper's parser.
const TARGET_BYTES: usize = 65_534;

/// Room in a request line beside the target: the longest sensible method, two spaces and the version.
const LINE_ROOM: usize = 64;

/// Empty lines that are forgiven before a request (RFC 9112 section 2.2); some clients send one after a body.
const EMPTY_LINES: u8 = 2;

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The next head.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A head that was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its bytes, with the empty line.
    pub(crate) length: usize,
    /// What follows.
    pub(crate) content: Content,
    /// Whether it asks to switch protocols.
    pub(crate) upgrade: bool,
}

/// Reads one head, however its bytes trickle in.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    /// Where the first line begins that was not read yet.
    at: usize,
    /// How far that line has been searched for its end.
    searched: usize,
    empty_lines: u8,
    begun: bool,
    version_10: bool,
    fields: usize,
    bytes: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl HeadReader {
    /// Reads on in all that has arrived of a head; `None` asks for more.
    ///
    /// # Errors
    /// `BadRequest`, `TargetTooLong` or `HeadersTooLarge`. The connection cannot be read any further then.
    pub(crate) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Fault> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &bytes[self.searched..]) else {
                self.searched = bytes.len();
                return self.check_unfinished(bytes.len() - self.at, limits).map(|()| None);
            };
            let end = self.searched + end;
            let line = &bytes[self.at..end];
            let Some((b'\r', line)) = line.split_last() else { return Err(bad("a line ends without CR")) };
            (self.at, self.searched) = (end + 1, end + 1);
            if !self.begun {
                self.first_line(line, limits)?;
            } else if line.is_empty() {
                return self.finish().map(Some);
            } else {
                self.field(line, limits)?;
            }
        }
    }

    /// A line without end must not grow for ever.
    fn check_unfinished(&self, line: usize, limits: &Limits) -> Result<(), Fault> {
        if !self.begun && line > limits.url_bytes.min(TARGET_BYTES) + LINE_ROOM {
            return Err(Fault::new(FaultKind::TargetTooLong));
        }
        if self.begun && self.bytes + line > limits.header_bytes {
            return Err(Fault::new(FaultKind::HeadersTooLarge));
        }
        Ok(())
    }

    fn first_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Fault> {
        if line.is_empty() {
            self.empty_lines += 1;
            return if self.empty_lines > EMPTY_LINES {
                Err(bad("empty lines instead of a request"))
            } else {
                Ok(())
            };
        }
        self.begun = true;
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("the request line is not method, target and version"));
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return Err(bad("the method is malformed"));
        }
        self.version_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(bad("the version is neither HTTP/1.1 nor HTTP/1.0")),
        };
        if target.len() > limits.url_bytes.min(TARGET_BYTES) {
            return Err(Fault::new(FaultKind::TargetTooLong));
        }
        check_target(target)
    }

    fn field(&mut self, line: &[u8], limits: &Limits) -> Result<(), Fault> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(bad("a header line is folded"));
        }
        let colon = memchr::memchr(b':', line).ok_or_else(|| bad("a header line has no colon"))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad("a header name is malformed"));
        }
        if !value.iter().all(|byte| is_value(*byte)) {
            return Err(bad("a header value has a control byte"));
        }
        self.fields += 1;
        self.bytes += name.len() + value.len() + 32;
        if self.fields > limits.headers {
            return Err(Fault::new(FaultKind::HeadersTooLarge).detail("too many header fields"));
        }
        if self.bytes > limits.header_bytes {
            return Err(Fault::new(FaultKind::HeadersTooLarge));
        }
        self.framing_field(name, value)
    }

    /// The fields that say where the message ends. Each may say so once, and only one of them may.
    fn framing_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(bad("Content-Length is repeated"));
            }
            self.length = Some(decimal(value).ok_or_else(|| bad("Content-Length is not a number"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.version_10 {
                return Err(bad("Transfer-Encoding in HTTP/1.0"));
            }
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(bad("Transfer-Encoding is other than `chunked`, once"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = !self.version_10;
        }
        Ok(())
    }

    fn finish(&self) -> Result<Head, Fault> {
        let content = match (self.length, self.chunked) {
            (Some(_), true) => return Err(bad("Content-Length and Transfer-Encoding together")),
            (Some(length), false) if length > 0 => Content::Length(length),
            (_, true) => Content::Chunked,
            _ => Content::Nothing,
        };
        Ok(Head { length: self.at, content, upgrade: self.upgrade })
    }

    /// Whether anything but forgiven empty lines has arrived.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun || self.searched > self.at
    }
}

/// Origin form, absolute form, or `*`; what they hold is judged later. A fragment never travels (RFC 9112 section 3.2).
fn check_target(target: &[u8]) -> Result<(), Fault> {
    let absolute =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if !(target.starts_with(b"/") || target == b"*" || absolute(b"http://") || absolute(b"https://")) {
        return Err(bad("the request target is neither a path nor an http URL"));
    }
    if !target.iter().all(|byte| matches!(byte, 0x21..=0x7E | 0x80..) && *byte != b'#') {
        return Err(bad("the request target has forbidden characters"));
    }
    Ok(())
}

/// Digits only: no sign, no list, no space, and not more than fits.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a field value (RFC 9110 section 5.5).
fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7E | 0x80..)
}

fn bad(detail: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest).detail(detail)
}

/// Follows a chunked body (RFC 9112 section 7.1) to its end.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    state: Chunk,
    trailer_bytes: usize,
    trailer_fields: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In a size, with its value and digits so far.
    Size(u64, u8),
    /// After the CR of a size line.
    SizeEnd(u64),
    /// In data, with so many bytes to come.
    Data(u64),
    /// Before the CR after data.
    DataCr,
    /// Before the LF after data.
    DataLf,
    /// In the trailers, at the begin of a line.
    TrailerBegin,
    /// In the name of a trailer.
    TrailerName,
    /// In its value.
    TrailerValue,
    /// After the CR of a trailer.
    TrailerLf,
    /// After the CR of the last, empty line.
    LastLf,
    /// Past the end.
    Over,
}

impl ChunkReader {
    /// At the begin of a chunked body.
    pub(crate) fn new() -> Self {
        ChunkReader { state: Chunk::Size(0, 0), trailer_bytes: 0, trailer_fields: 0 }
    }

    /// Whether the body has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state == Chunk::Over
    }

    /// Follows as many of the bytes as belong to the body, and tells how many those are.
    ///
    /// # Errors
    /// What is wrong. Neither this body nor this connection can be read any further then.
    pub(crate) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            if let Chunk::Data(left) = self.state {
                let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += step;
                let left = left - step as u64;
                self.state = if left == 0 { Chunk::DataCr } else { Chunk::Data(left) };
                continue;
            }
            self.state = self.step(bytes[at])?;
            self.count_trailers(limits)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&self, byte: u8) -> Result<Chunk, &'static str> {
        Ok(match (self.state, byte) {
            (Chunk::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Chunk::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Chunk::Size(size, 1..), b'\r') => Chunk::SizeEnd(size),
            // Extensions mean nothing to anyone, and where they end has been read in two ways.
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

    use super::*;
    use crate::testing::limits;

    fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
        HeadReader::default().read(bytes, &limits())
    }

    #[test]
    fn what_follows_a_head_is_known() {
        let read = |fields: &str| head(format!("POST / HTTP/1.1\r\n{fields}\r\nrest").as_bytes());
        let content = |fields| read(fields).expect("a good head").expect("a whole head").content;
        assert_eq!(content("host: a\r\n"), Content::Nothing);
        assert_eq!(content("Content-Length:\t7 \r\n"), Content::Length(7));
        assert_eq!(content("content-length: 0\r\n"), Content::Nothing);
        assert_eq!(content("Transfer-Encoding: Chunked\r\n"), Content::Chunked);
        let upgrade = read("upgrade: websocket\r\n").expect("a good head").expect("a whole head");
        assert!(upgrade.upgrade);
        assert_eq!(upgrade.length, "POST / HTTP/1.1\r\nupgrade: websocket\r\n\r\n".len());
    }

    /// A chunked body, and how many of its bytes belong to it.
    fn chunks(bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut reader = ChunkReader::new();
        let read = reader.read(bytes, &limits())?;
        Ok((read, reader.is_over()))
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

    proptest! {
        #[test]
        fn a_head_reads_the_same_however_it_arrives(
            line in "(GET|POST|G@T) /[a-z]{0,3} HTTP/1\\.[01]",
            fields in prop::collection::vec("(host|content-length|transfer-encoding|x|x )(:|) ?(a|1|chunked|)", 0..5),
            end in prop::sample::select(vec!["\r\n", "\n", "\r"]),
            cuts in prop::collection::vec(1_usize..8, 0..40),
        ) {
            let text = format!("{line}\r\n{}\r\n", fields.iter().map(|field| format!("{field}{end}")).collect::<String>());
            let bytes = text.as_bytes();
            let whole = head(bytes).map_err(|fault| fault.to_string());
            let mut reader = HeadReader::default();
            let mut at = 0;
            let mut pieces = Ok(None);
            for cut in cuts.into_iter().chain(std::iter::repeat(64)) {
                at = bytes.len().min(at + cut);
                pieces = reader.read(&bytes[..at], &limits()).map_err(|fault| fault.to_string());
                if at == bytes.len() || pieces != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn chunks_read_the_same_however_they_arrive(text in "[0-3a;x:\r\n]{0,40}", cut in 0_usize..40) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut reader = ChunkReader::new();
            let pieces = reader.read(&bytes[..cut], &limits()).and_then(|first| {
                let second = if first == cut { reader.read(&bytes[cut..], &limits())? } else { 0 };
                Ok((first + second, reader.is_over()))
            });
            prop_assert_eq!(chunks(bytes), pieces);
        }
    }
}
