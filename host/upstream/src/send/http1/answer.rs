//! Reads the head of a response strictly (RFC 9112).
//!
//! If two readers disagree about where a response ends, one of them takes the rest of it for the response to
//! another request (response smuggling). Therefore a line must end with CR LF, a name must be a token directly
//! before its colon, line folding is refused, a value must have no control bytes, and the length of the body must
//! be given in one way only. Names and values become entries of a validated header map; received bytes are never
//! forwarded as they came.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode, Version};
use witgate_exchange::maps;
use witgate_wire::http1::field;
use witgate_wire::http1::head::decimal;

use super::content::Content;
use crate::response;

/// The most bytes of all heads of one response, informational ones included, or of its trailers.
const HEAD_BYTES: usize = 128 * 1024;
/// The most fields of the trailers.
const TRAILERS: usize = 100;
/// The error for a value with a byte that could end its line or do worse.
const CONTROL_BYTE: &str = "a header value has a control byte";
/// The beginning of every head.
const BEGIN: &[u8; 7] = b"HTTP/1.";

/// What the reader must know about the request in order to read its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestKind {
    /// Whether the method was HEAD, whose response has no body.
    pub(crate) head: bool,
    /// Whether the request asked for a switch of protocols.
    pub(crate) upgrade: bool,
    /// The most fields of the response head.
    pub(crate) response_headers: usize,
}

impl Default for RequestKind {
    fn default() -> Self {
        RequestKind { head: false, upgrade: false, response_headers: 100 }
    }
}

/// A complete head, and the framing of the body after it.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    /// Status, version and end-to-end headers.
    pub(crate) response: Response<()>,
    pub(crate) content: Content,
    /// Whether the endpoint keeps the connection open for another request.
    pub(crate) persistent: bool,
}

/// Reads the head of one response, even if its bytes arrive one at a time.
#[derive(Debug, Default)]
pub(crate) struct HeadReader(SectionReader);

/// The parts of a head that have been read so far.
#[derive(Debug)]
struct Parts {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    /// The header names that `Connection` lists, which are hop-by-hop.
    named: Vec<HeaderName>,
}

impl HeadReader {
    /// Takes the head out of `arrived`. The response has no hop-by-hop headers. `None` if more bytes are needed.
    /// `informational` takes the heads of informational responses before it with their lengths in bytes (RFC 9110 section
    /// 15.2), except for `100 Continue`: no endpoint is asked for one, because the gateway itself meets the expectation
    /// of a client.
    ///
    /// # Errors
    /// What is malformed. Nothing more can be read from the connection then.
    pub(crate) fn read(
        &mut self,
        arrived: &mut BytesMut,
        asked: RequestKind,
        mut informational: impl FnMut(Response<()>, usize) -> Result<(), &'static str>,
    ) -> Result<Option<ResponseHead>, &'static str> {
        loop {
            let seen = arrived.len().min(BEGIN.len());
            if arrived[..seen] != BEGIN[..seen] {
                return Err("what came is no HTTP/1 answer");
            }
            let most = asked.response_headers;
            let Some(section) = self.0.take(arrived, most, response::TOO_MANY)? else { return Ok(None) };
            let (head, bytes) = (Parts::read(&section)?.finish(asked)?, section.bytes.len());
            self.0.give_back(section);
            match head.response.status() {
                StatusCode::CONTINUE => {}
                status if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => {
                    informational(head.response, bytes)?;
                }
                _ => return Ok(Some(head)),
            }
        }
    }

    /// Starts again, for the response to another request.
    pub(crate) fn restart(&mut self) {
        self.0.restart();
    }

    /// Whether any byte was taken.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.taken > 0
    }
}

impl Parts {
    fn read(section: &Section) -> Result<Self, &'static str> {
        let mut lines = section.lines();
        let status = lines.next().unwrap_or_default();
        // One of the lines is the status line; its place in the map is for the field that the gateway adds. A
        // larger capacity would double the memory of the map of an ordinary response.
        let mut parts = Parts::begin(status, maps::take(section.ends.len()))?;
        for line in lines {
            let (name, text) = field::of(line)?;
            parts.field(section, name, text)?;
        }
        Ok(parts)
    }

    /// Reads a status line (RFC 9112 section 4). If the reason phrase is absent, the space before it may be
    /// absent, too.
    fn begin(line: &[u8], headers: HeaderMap) -> Result<Self, &'static str> {
        let version = match line.get(BEGIN.len()) {
            Some(b'1') => Version::HTTP_11,
            Some(b'0') => Version::HTTP_10,
            _ => return Err("the version is neither HTTP/1.1 nor HTTP/1.0"),
        };
        let status = line.get(BEGIN.len() + 1..).unwrap_or_default();
        let (Some((b' ', digits)), reason) =
            (status.get(..4).and_then(<[u8]>::split_first), status.get(4..).unwrap_or_default())
        else {
            return Err("the status line is not version and status");
        };
        if !(reason.is_empty() || reason[0] == b' ') || !field::is_text(reason) {
            return Err("the reason is malformed");
        }
        Ok(Parts {
            status: response::status(digits)?,
            version,
            headers,
            length: None,
            chunked: false,
            close: false,
            keep_alive: false,
            named: Vec::new(),
        })
    }

    fn field(&mut self, section: &Section, name: HeaderName, text: &[u8]) -> Result<(), &'static str> {
        match name {
            CONTENT_LENGTH if !self.is_first_length(text)? => return Ok(()),
            TRANSFER_ENCODING => return self.coding(text),
            CONNECTION => self.connection(text),
            _ => {}
        }
        // The headers of a switch of protocols are forwarded, because both hops take part in the switch.
        if field::is_hop_by_hop(&name) && self.status != StatusCode::SWITCHING_PROTOCOLS {
            return if field::is_text(text) { Ok(()) } else { Err(CONTROL_BYTE) };
        }
        field::append(&mut self.headers, name, section.value(text)?);
        Ok(())
    }

    /// Accepts digits only. A length that is given twice is forwarded once (RFC 9112 section 6.3, number 5).
    fn is_first_length(&mut self, text: &[u8]) -> Result<bool, &'static str> {
        let length = decimal(text).ok_or("a Content-Length that is no number")?;
        match self.length.replace(length) {
            None => Ok(true),
            Some(before) if before == length => Ok(false),
            Some(_) => Err("Content-Length is repeated"),
        }
    }

    fn coding(&mut self, text: &[u8]) -> Result<(), &'static str> {
        if self.version == Version::HTTP_10 {
            return Err("Transfer-Encoding in HTTP/1.0");
        }
        if self.chunked || !field::is(text, b"chunked") {
            return Err("Transfer-Encoding is other than `chunked`, once");
        }
        self.chunked = true;
        Ok(())
    }

    fn connection(&mut self, text: &[u8]) {
        // Fast path: nearly every response with this header says exactly `Connection: keep-alive`.
        if field::is(text, b"keep-alive") {
            self.keep_alive = true;
            return;
        }
        for option in text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if field::is(option, b"keep-alive") {
                self.keep_alive = true;
            } else if field::is(option, b"close") {
                self.close = true;
            } else if let Ok(name) = HeaderName::from_bytes(option) {
                self.named.push(name);
            }
        }
    }

    fn finish(mut self, asked: RequestKind) -> Result<ResponseHead, &'static str> {
        let content = match (self.length, self.chunked) {
            (Some(_), true) => return Err("Content-Length beside Transfer-Encoding"),
            (_, true) => Content::chunked(),
            (Some(length), false) => Content::length(length),
            (None, false) => Content::UntilClose,
        };
        let bodiless = asked.head || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let content = if self.status.is_informational() {
            // RFC 9110 section 15.2: an interim response has no body, so it cannot announce the length of one.
            if self.chunked || self.length.is_some_and(|length| length > 0) {
                return Err("an interim answer with a body");
            }
            Content::Over
        } else if bodiless {
            Content::Over
        } else {
            content
        };
        let switching = self.status == StatusCode::SWITCHING_PROTOCOLS;
        if switching && !asked.upgrade {
            return Err("101 that was not asked for");
        }
        if !switching {
            response::strip_named(&mut self.headers, &self.named);
        }
        let persistent = !self.close && (self.version == Version::HTTP_11 || self.keep_alive);
        let persistent = persistent && !matches!(content, Content::UntilClose);
        let mut response = Response::new(());
        (*response.status_mut(), *response.version_mut()) = (self.status, self.version);
        *response.headers_mut() = self.headers;
        Ok(ResponseHead { response, content, persistent })
    }
}

/// Reads trailers (RFC 9112 section 7.1.2), which have the same format as headers.
#[derive(Debug, Default)]
pub(crate) struct TrailerReader(SectionReader);

impl TrailerReader {
    /// Takes the trailers out of `arrived`. `None` if more bytes are needed.
    ///
    /// # Errors
    /// What is malformed.
    pub(crate) fn read(&mut self, arrived: &mut BytesMut) -> Result<Option<HeaderMap>, &'static str> {
        const TOO_MANY: &str = "too many trailer fields";
        let Some(section) = self.0.take(arrived, TRAILERS, TOO_MANY)? else { return Ok(None) };
        if section.ends.len() > TRAILERS {
            return Err(TOO_MANY);
        }
        let mut headers = HeaderMap::with_capacity(section.ends.len());
        for line in section.lines() {
            let (name, text) = field::of(line)?;
            let value = section.value(text)?;
            // RFC 9110 section 6.5.1: trailers must not contain framing or hop-by-hop fields, so they are dropped.
            if name != CONTENT_LENGTH && !field::is_hop_by_hop(&name) {
                headers.append(name, value);
            }
        }
        Ok(Some(headers))
    }
}

/// Finds the end of a section, even if its bytes arrive one at a time.
#[derive(Debug, Default)]
struct SectionReader {
    /// Where the current line begins.
    at: usize,
    /// Up to where the current line has been searched for its end.
    searched: usize,
    /// The ends of the lines before it: the positions of their LF.
    ends: Vec<usize>,
    /// The number of bytes in the sections taken so far.
    taken: usize,
}

impl SectionReader {
    /// Takes a section once it has arrived completely. It may have a line and `most` fields; `excess` is the error for
    /// more.
    fn take(
        &mut self,
        arrived: &mut BytesMut,
        most: usize,
        excess: &'static str,
    ) -> Result<Option<Section>, &'static str> {
        loop {
            let end = memchr::memchr(b'\n', &arrived[self.searched..]).map(|end| self.searched + end);
            self.searched = end.map_or(arrived.len(), |end| end + 1);
            if self.taken + self.searched > HEAD_BYTES {
                return Err("the head is too large");
            }
            let Some(end) = end else { return Ok(None) };
            if end == self.at || arrived[end - 1] != b'\r' {
                return Err("a line ends without CR");
            }
            if end == self.at + 1 {
                break;
            }
            self.at = self.searched;
            self.ends.push(end);
            // A head has a status line in addition to its fields.
            if self.ends.len() > 1 + most {
                return Err(excess);
            }
        }
        let bytes = arrived.split_to(self.searched).freeze();
        self.taken += self.searched;
        (self.at, self.searched) = (0, 0);
        Ok(Some(Section { bytes, ends: std::mem::take(&mut self.ends) }))
    }

    /// Takes back a section that was read, so that its memory for lines can be used again.
    fn give_back(&mut self, section: Section) {
        self.ends = section.ends;
        self.ends.clear();
    }

    /// Starts again.
    fn restart(&mut self) {
        self.ends.clear();
        (self.at, self.searched, self.taken) = (0, 0, 0);
    }
}

/// The lines of a head or of trailers. Each ends with CR LF, and an empty line follows.
struct Section {
    bytes: Bytes,
    ends: Vec<usize>,
}

impl Section {
    /// The lines without their ends, and without the empty line.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut at, end + 1)..end - 1])
    }

    /// Validates a text as the value of a field. The value shares the memory of the section.
    fn value(&self, text: &[u8]) -> Result<HeaderValue, &'static str> {
        field::value(self.bytes.slice_ref(text)).ok_or(CONTROL_BYTE)
    }
}
