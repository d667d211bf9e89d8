//! A strict reader of request heads (RFC 9112).
//!
//! Request smuggling exploits what parsers tolerate: lines that end in a bare LF, `Content-Length` beside
//! `Transfer-Encoding`, repeated equal lengths, unknown codings before `chunked`. This reader refuses everything
//! that two servers could read differently. A head is read once: the positions of its parts are recorded while it
//! is checked, and the field values are slices of the bytes that arrived. Nothing here does I/O; `wire` feeds the
//! reader.

use std::ops::Range;

use bytes::Bytes;
use http::header::ORIGIN;
use http::uri::InvalidUri;
use http::{HeaderValue, Method, Request, Uri, Version};
use witgate_config::model::Limits;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::maps;

use super::coding;
use super::field::{self, is};
use crate::core_local::SPARE_FIELDS_OF_HEAD;

/// The longest target, in bytes, that a [`Uri`] can hold.
const TARGET_BYTES: usize = 65_534;

/// Bytes allowed in a request line besides the target: the longest method in use, two spaces and the version.
const LINE_ROOM: usize = 64;

/// Empty lines that are ignored before a request (RFC 9112 section 2.2); some clients send one after a body.
const EMPTY_LINES: u8 = 2;

/// The body that follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No body.
    Nothing,
    /// A body of this many bytes.
    Length(u64),
    /// A chunked body.
    Chunked,
}

/// A complete head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Length in bytes, including the empty line at its end.
    pub length: usize,
    /// The body that follows.
    pub content: Content,
    /// What the head says about this connection.
    pub options: ConnectionOptions,
}

/// What a head says about its own connection only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The version of the message.
    pub version: Version,
    /// Whether further requests may follow on the connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Whether the request asks to switch protocols (RFC 9110 section 7.8).
    pub upgrade: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// Whether the client accepts trailers (`TE: trailers`, RFC 9110 section 6.5.1).
    pub trailers: bool,
    /// Whether the method is HEAD, so that the response has no body whatever its head says.
    pub is_head: bool,
}

/// The position of a field in a head.
#[derive(Debug)]
pub(crate) struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

/// Fields for which room is reserved at first.
const USUAL_FIELDS: usize = 16;

/// The largest capacity, in fields, that is kept for the next head.
const SPARE_FIELDS: usize = 128;

/// Fields that the gateway itself adds to the map, less `Host`, which it removes.
const OWN_FIELDS: usize = 3;

/// Reads one head, in as many pieces as it arrives.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the first line begins that has not been read yet.
    at: usize,
    /// How far that line has been searched for its end.
    searched: usize,
    empty_lines: u8,
    begun: bool,
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<Field>,
    version_10: bool,
    bytes: usize,
    length: Option<u64>,
    chunked: bool,
    /// Whether a coding other than `chunked` precedes it.
    coded: bool,
    upgrade: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    trailers: bool,
}

impl HeadReader {
    /// Reads what has arrived of a head. `None`: the head is not complete yet.
    ///
    /// # Errors
    /// `BadRequest`, `TargetTooLong` or `HeadersTooLarge`. The connection cannot be read any further then.
    pub fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Fault> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &bytes[self.searched..]) else {
                self.searched = bytes.len();
                return self.check_unfinished(bytes.len() - self.at, limits).map(|()| None);
            };
            let end = self.searched + end;
            let begin = self.at;
            let Some((b'\r', line)) = bytes[begin..end].split_last() else {
                return Err(bad("a line ends without CR"));
            };
            (self.at, self.searched) = (end + 1, end + 1);
            if !self.begun {
                self.first_line(line, begin, limits)?;
            } else if line.is_empty() {
                return self.finish(bytes).map(Some);
            } else {
                self.field(line, begin, limits)?;
            }
        }
    }

    /// Bounds the size of an incomplete line.
    fn check_unfinished(&self, line: usize, limits: &Limits) -> Result<(), Fault> {
        if !self.begun && line > limits.url_bytes.min(TARGET_BYTES) + LINE_ROOM {
            return Err(Fault::new(FaultKind::TargetTooLong));
        }
        if self.begun && self.bytes + line > limits.header_bytes {
            return Err(Fault::new(FaultKind::HeadersTooLarge));
        }
        Ok(())
    }

    fn first_line(&mut self, line: &[u8], begin: usize, limits: &Limits) -> Result<(), Fault> {
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
        self.method = begin..begin + method.len();
        self.target = self.method.end + 1..self.method.end + 1 + target.len();
        check_target(target)
    }

    fn field(&mut self, line: &[u8], begin: usize, limits: &Limits) -> Result<(), Fault> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(bad("a header line is folded"));
        }
        let colon = field::colon(line).ok_or_else(|| bad("a header line has no colon"))?;
        let (name, value) = (&line[..colon], field::trimmed(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad("a header name is malformed"));
        }
        if !field::is_text(value) {
            return Err(bad("a header value has a control byte"));
        }
        let at = begin + (value.as_ptr().addr() - line.as_ptr().addr());
        if self.fields.capacity() == 0 {
            self.fields = SPARE_FIELDS_OF_HEAD.take();
            self.fields.reserve(USUAL_FIELDS);
        }
        self.fields.push(Field { name: begin..begin + colon, value: at..at + value.len() });
        self.bytes += name.len() + value.len() + 32;
        if self.fields.len() > limits.headers {
            return Err(Fault::new(FaultKind::HeadersTooLarge).detail("too many header fields"));
        }
        if self.bytes > limits.header_bytes {
            return Err(Fault::new(FaultKind::HeadersTooLarge));
        }
        self.framing_field(name, value)
    }

    /// Handles the fields that delimit the body, each of which may occur once, and the hop-by-hop fields.
    fn framing_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name.len() {
            2 if is(name, b"te") => self.trailers |= has_option(value, b"trailers"),
            6 if is(name, b"expect") => self.expects_continue |= is(value, b"100-continue"),
            7 if is(name, b"upgrade") => self.upgrade = !self.version_10,
            10 if is(name, b"connection") => {
                self.close |= has_option(value, b"close");
                self.keep_alive |= has_option(value, b"keep-alive");
            }
            14 if is(name, b"content-length") => {
                if self.length.is_some() {
                    return Err(bad("Content-Length is repeated"));
                }
                self.length = Some(decimal(value).ok_or_else(|| bad("Content-Length is not a number"))?);
            }
            17 if is(name, b"transfer-encoding") => {
                if self.version_10 {
                    return Err(bad("Transfer-Encoding in HTTP/1.0"));
                }
                self.codings(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the list of codings of the body, the outermost last (RFC 9112 section 6.1). Only `chunked` is known.
    fn codings(&mut self, value: &[u8]) -> Result<(), Fault> {
        let mut rest = Some(value);
        while let Some(list) = rest {
            if self.chunked {
                return Err(bad("`chunked` is not the last coding, once"));
            }
            let (coding, after) =
                coding::first(list).ok_or_else(|| bad("Transfer-Encoding is no list of codings"))?;
            self.chunked = is(coding.name, b"chunked");
            if self.chunked && coding.has_parameters {
                // RFC 9112 section 7.1: the coding has none, and they should be treated as an error.
                return Err(bad("`chunked` has parameters"));
            }
            self.coded |= !self.chunked;
            rest = after;
        }
        Ok(())
    }

    fn finish(&self, bytes: &[u8]) -> Result<Head, Fault> {
        if self.coded && !self.chunked {
            // RFC 9112 section 6.3: the end of such a body cannot be found.
            return Err(bad("`chunked` is not the last coding"));
        }
        if self.coded && self.length.is_none() {
            let detail = "the only transfer coding is `chunked`";
            return Err(Fault::new(FaultKind::TransferCoding).detail(detail));
        }
        let content = match (self.length, self.chunked) {
            // Two ways to delimit the body: servers that prefer different ones would see different requests (RFC
            // 9112 section 6.1).
            (Some(_), true) => return Err(bad("Content-Length and Transfer-Encoding together")),
            (Some(length), false) if length > 0 => Content::Length(length),
            (_, true) => Content::Chunked,
            _ => Content::Nothing,
        };
        let options = ConnectionOptions {
            version: if self.version_10 { Version::HTTP_10 } else { Version::HTTP_11 },
            keep_alive: !self.close && (!self.version_10 || self.keep_alive),
            upgrade: self.upgrade,
            expects_continue: self.expects_continue && !self.version_10,
            trailers: self.trailers,
            is_head: bytes[self.method.clone()] == *b"HEAD",
        };
        Ok(Head { length: self.at, content, options })
    }

    /// Fills in a request from a complete head and the bytes it was read from, and resets the reader.
    ///
    /// # Errors
    /// `BadRequest` where the target is not a URI.
    pub fn take<B>(&mut self, head: &Bytes, request: &mut Request<B>) -> Result<(), Fault> {
        let mut headers = maps::take(self.fields.len() + OWN_FIELDS);
        for field in &self.fields {
            let name = field::name(&head[field.name.clone()]);
            let value = field::value(head.slice(field.value.clone()));
            let (Ok(name), Some(value)) = (name, value) else { return Err(bad("a header is malformed")) };
            field::append(&mut headers, name, value);
        }
        let method = Method::from_bytes(&head[self.method.clone()]);
        let target = uri(head.slice(self.target.clone()));
        let (Ok(method), Ok(target)) = (method, target) else {
            return Err(bad("the request target is malformed"));
        };
        *request.method_mut() = method;
        *request.uri_mut() = target;
        *request.version_mut() = if self.version_10 { Version::HTTP_10 } else { Version::HTTP_11 };
        *request.headers_mut() = headers;
        let mut fields = std::mem::take(self).fields;
        if fields.capacity() <= SPARE_FIELDS {
            fields.clear();
            SPARE_FIELDS_OF_HEAD.set(fields);
        }
        Ok(())
    }

    /// Whether anything but ignored empty lines has arrived.
    pub fn has_begun(&self) -> bool {
        self.begun || self.searched > self.at
    }
}

/// Accepts origin form, absolute form and `*`; their content is checked later. A fragment is never sent (RFC 9112
/// section 3.2).
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

/// Parses a target. The type of targets does not hold some characters that clients send without encoding them,
/// although RFC 3986 does not allow them; encoded they mean the same.
fn uri(target: Bytes) -> Result<Uri, InvalidUri> {
    let parsed = Uri::from_maybe_shared(target.clone());
    let raw = |byte: &u8| matches!(byte, b'"' | b'<' | b'>' | b'`');
    if parsed.is_ok() || !target.iter().any(raw) {
        return parsed;
    }
    // The authority of the absolute form has no encoding.
    let authority = match target.first() {
        Some(b'/') => 0,
        _ => memchr::memmem::find(&target, b"://").map_or(0, |scheme| scheme + 3),
    };
    let path = target[authority..].iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (before, path) = target.split_at(path.map_or(target.len(), |path| authority + path));
    let mut encoded = before.to_vec();
    for byte in path {
        match byte {
            b'"' => encoded.extend_from_slice(b"%22"),
            b'<' => encoded.extend_from_slice(b"%3C"),
            b'>' => encoded.extend_from_slice(b"%3E"),
            b'`' => encoded.extend_from_slice(b"%60"),
            byte => encoded.push(*byte),
        }
    }
    Uri::from_maybe_shared(Bytes::from(encoded))
}

/// Parses a decimal number: digits only (no sign, no list, no space) that fit in 64 bits.
pub fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Whether a comma-separated list contains an option, ignoring case.
fn has_option(list: &[u8], option: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(option))
}

/// Characters of a token (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        token[byte] = character.is_ascii_alphanumeric()
            || matches!(
                character,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    token
};

/// Fills in `Origin` of a head that was refused, as far as it has arrived, so that a page of that origin may read the
/// refusal (CORS). Nothing else of such a head is used.
pub fn read_origin<B>(head: &[u8], request: &mut Request<B>) {
    let mut fields = head.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let line = line.strip_suffix(b"\r")?;
        field::colon(line).map(|colon| (&line[..colon], field::trimmed(&line[colon + 1..])))
    });
    if let Some((_, value)) = fields.find(|(name, _)| is(name, b"origin"))
        && let Ok(origin) = HeaderValue::from_bytes(value)
    {
        request.headers_mut().insert(ORIGIN, origin);
    }
}

/// Whether a byte may be part of a token (RFC 9110 section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

fn bad(detail: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest).detail(detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use witgate_exchange::testing::limits;

    use super::*;

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
        assert!(upgrade.options.upgrade);
        assert_eq!(upgrade.length, "POST / HTTP/1.1\r\nupgrade: websocket\r\n\r\n".len());
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
    }
}
