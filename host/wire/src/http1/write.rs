//! Serialises a response: its head, and the framing of its body (RFC 9112 sections 6 and 7).

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, DATE, TRAILER};
use http::{HeaderMap, Response, StatusCode, Version};
use httpdate::HttpDate;
use tokio::io::AsyncWrite;

use super::field::{self, is_hop_by_hop};
use crate::core_local::{DATE_TEXT, SPARE_HEAD};

/// The largest head buffer that a core keeps for the next response.
const SPARE_BYTES: usize = 16 * 1024;

/// Capacity of a new head buffer, in bytes.
const HEAD_BYTES: usize = 1024;

/// How a response body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Nothing,
    /// By its length in bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the close of the connection (HTTP/1.0 clients).
    Close,
}

/// What is decided about a response before its first byte is written.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The version in the status line.
    pub version: Version,
    /// How the end of the body is marked.
    pub framing: Framing,
    /// Whether the connection is kept alive.
    pub keep_alive: bool,
    /// Whether the trailers of the body are sent, if it has any.
    pub trailers: bool,
}

/// Bytes that wait to be written to the socket. Holds no memory once they are written.
#[derive(Debug, Default)]
pub struct Output {
    /// The head, and chunk sizes.
    prefix: Vec<u8>,
    written: usize,
    data: Bytes,
    suffix: &'static [u8],
    moved: bool,
}

/// Pieces up to this size are copied behind their head: for small ones a single buffer is cheaper than a vectored
/// write, and TLS puts them in one record.
const COPIED_BYTES: usize = 4 * 1024;

impl Output {
    /// Whether nothing is buffered.
    pub fn is_empty(&self) -> bool {
        self.written == self.prefix.len() && self.data.is_empty() && self.suffix.is_empty()
    }

    /// Whether the client has taken any bytes since the last call.
    pub fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    fn prefix(&mut self) -> &mut Vec<u8> {
        if self.prefix.capacity() == 0 {
            self.prefix = SPARE_HEAD.take();
            self.prefix.reserve(HEAD_BYTES);
        }
        &mut self.prefix
    }

    /// Adds `100 Continue`.
    pub fn proceed(&mut self) {
        self.prefix().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Adds an informational response (RFC 9110 section 15.2), which has no body and so no framing.
    pub fn informational(&mut self, head: &Response<()>) {
        let (out, status) = (self.prefix(), head.status());
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        for (name, value) in head.headers() {
            if *name != CONTENT_LENGTH && !is_hop_by_hop(name) {
                field::write(out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Adds the head of a response.
    pub fn head<B>(&mut self, response: &Response<B>, plan: &Plan) {
        let (out, status) = (self.prefix(), response.status());
        out.extend_from_slice(if plan.version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        // A response to HEAD and a 304 state the length of the body that they leave out (RFC 9110 section 8.6).
        let told = plan.framing == Framing::Nothing && !switches && status != StatusCode::NO_CONTENT;
        let mut dated = false;
        for (name, value) in response.headers() {
            dated |= *name == DATE;
            // Hop-by-hop fields of the response are dropped; those of this connection are written below.
            if *name == CONTENT_LENGTH && !told || !switches && is_hop_by_hop(name) {
                continue;
            }
            // Trailers that are cut off are not announced either (RFC 9110 section 6.6.2).
            if *name == TRAILER && !plan.trailers {
                continue;
            }
            field::write(out, name, value);
        }
        match plan.framing {
            Framing::Length(length) => {
                out.extend_from_slice(b"content-length: ");
                decimal(out, length);
                out.extend_from_slice(b"\r\n");
            }
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::Nothing | Framing::Close => {}
        }
        if !plan.keep_alive && !switches {
            out.extend_from_slice(b"connection: close\r\n");
        } else if plan.version == Version::HTTP_10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        if !dated {
            out.extend_from_slice(b"date: ");
            out.extend_from_slice(&date());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Adds a piece of the body, and the body's end if `last`.
    pub fn data(&mut self, data: Bytes, framing: Framing, last: bool) {
        if framing == Framing::Chunked {
            hexadecimal(self.prefix(), data.len());
            self.suffix = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        }
        if self.prefix.is_empty() || data.len() > COPIED_BYTES {
            self.data = data;
        } else {
            self.prefix.extend_from_slice(&data);
            self.prefix.extend_from_slice(std::mem::take(&mut self.suffix));
        }
    }

    /// Adds the end of a chunked body, with its trailers.
    pub fn end(&mut self, trailers: Option<&HeaderMap>) {
        let out = self.prefix();
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            // Fields that delimit, route or modify a message are not allowed in trailers (RFC 9110 section 6.5.1).
            if *name != CONTENT_LENGTH && *name != TRAILER && !is_hop_by_hop(name) {
                field::write(out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes until nothing is left or the socket takes no more.
    pub fn poll_write<T>(&mut self, io: &mut T, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncWrite + Unpin,
    {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let mut filled = 0;
            for part in [&self.prefix[self.written..], &self.data, self.suffix] {
                if !part.is_empty() {
                    slices[filled] = IoSlice::new(part);
                    filled += 1;
                }
            }
            let written = match filled {
                1 => Pin::new(&mut *io).poll_write(context, &slices[0]),
                _ => Pin::new(&mut *io).poll_write_vectored(context, &slices[..filled]),
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        self.written = 0;
        let mut spare = std::mem::take(&mut self.prefix);
        if (1..=SPARE_BYTES).contains(&spare.capacity()) {
            spare.clear();
            SPARE_HEAD.set(spare);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.moved = true;
        let of_prefix = written.min(self.prefix.len() - self.written);
        self.written += of_prefix;
        written -= of_prefix;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        self.suffix = &self.suffix[written - of_data..];
        if self.data.is_empty() {
            self.data = Bytes::new();
        }
    }
}

/// Appends a number in decimal digits.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a chunk size and CRLF.
fn hexadecimal(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[number >> (digit * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The value of `Date` (RFC 9110 section 6.6.1), formatted once a second.
pub fn date() -> [u8; 29] {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (made, text) = DATE_TEXT.get();
    if made == second {
        return text;
    }
    let mut text = [b' '; 29];
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
    // An HTTP date has exactly 29 characters, so it fits.
    let _ = write!(&mut text[..], "{date}");
    DATE_TEXT.set((second, text));
    text
}

#[cfg(test)]
mod tests {
    use witgate_exchange::testing;

    use super::*;

    /// Serialises a response with one piece of data.
    fn written(plan: Plan, headers: &[(&str, &str)], data: &'static [u8]) -> String {
        let mut builder = Response::builder().header(DATE, "now");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut output = Output::default();
        output.head(&builder.body(()).expect("a head"), &plan);
        output.data(Bytes::from_static(data), plan.framing, true);
        let mut bytes = Vec::new();
        testing::run(std::future::poll_fn(|context| output.poll_write(&mut bytes, context))).expect("room");
        assert!(output.is_empty() && output.prefix.capacity() == 0);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn framing_follows_from_the_body_and_not_from_the_head() {
        let plan = |framing| Plan { version: Version::HTTP_11, framing, keep_alive: true, trailers: false };
        let said = [("content-length", "7"), ("connection", "x-a"), ("keep-alive", "1"), ("x-a", "1")];
        assert_eq!(
            written(plan(Framing::Length(3)), &said, b"abc"),
            "HTTP/1.1 200 OK\r\ndate: now\r\nx-a: 1\r\ncontent-length: 3\r\n\r\nabc"
        );
        assert_eq!(
            written(plan(Framing::Chunked), &said, b"0123456789abcdef0"),
            "HTTP/1.1 200 OK\r\ndate: now\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n11\r\n0123456789abcdef0\r\n0\r\n\r\n"
        );
        assert_eq!(
            written(plan(Framing::Nothing), &said, b""),
            "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 7\r\nx-a: 1\r\n\r\n"
        );
    }

    #[test]
    fn connections_of_old_clients_say_whether_they_stay() {
        let plan = |keep_alive| Plan {
            version: Version::HTTP_10,
            framing: Framing::Length(0),
            keep_alive,
            trailers: false,
        };
        assert!(written(plan(true), &[], b"").contains("\r\nconnection: keep-alive\r\n"));
        assert!(written(plan(false), &[], b"").contains("\r\nconnection: close\r\n"));
    }

    #[test]
    fn numbers_are_written_as_their_digits() {
        let mut out = Vec::new();
        for number in [0, 9, 10, u64::MAX] {
            decimal(&mut out, number);
            out.push(b' ');
        }
        for number in [0, 15, 16, 0x10_0000] {
            hexadecimal(&mut out, number);
        }
        assert_eq!(String::from_utf8_lossy(&out), "0 9 10 18446744073709551615 0\r\nf\r\n10\r\n100000\r\n");
    }

    #[test]
    fn the_date_is_an_http_date() {
        let text = String::from_utf8(date().to_vec()).expect("ASCII");
        let read = httpdate::parse_http_date(&text).expect("a date");
        let age = SystemTime::now().duration_since(read).expect("not in the future");
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
