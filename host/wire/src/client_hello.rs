//! Reads what routing needs of a TLS ClientHello (RFC 8446 section 4.1.2): the server name (RFC 6066 section 3) and the
//! application protocols (RFC 7301 section 3.1). Nothing is changed or consumed, so that the bytes can be passed on as
//! they came.
//!
//! A hello may be spread over many records and arrive in pieces. It is read as strictly as a server would read it where a
//! second reading could lead somewhere else: two server names, a name that is none, and lengths that do not fit are
//! refused. What decides nothing here (versions, cipher suites, other extensions) is left to the server.

use std::net::IpAddr;

/// The most bytes of a hello, without the record headers. A post-quantum hello has about 1,800.
const MOST_BYTES: usize = 64 * 1024;

/// The most bytes that a hello may occupy with its record headers: a client that sends one byte in each record gets no
/// more.
const MOST_RECEIVED: usize = 96 * 1024;

/// The most bytes of the content of one record (RFC 8446 section 5.1).
const MOST_IN_RECORD: usize = 16 * 1024;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What a hello says about where the client wants to go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name in lower case, without a trailing dot. `None` if the client sent none, or an address, which is no
    /// server name (RFC 6066 section 3).
    pub server_name: Option<Box<str>>,
    /// The application protocols that the client offers, in its order of preference.
    pub alpn: Vec<Box<[u8]>>,
}

/// Why bytes are no acceptable ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They do not begin as a TLS handshake does.
    NotTls,
    /// Lengths or values in it are wrong.
    Content(&'static str),
    /// It is longer than is accepted.
    TooLong,
    /// It has two server names.
    TwoNames,
    /// Its server name is no host name.
    BadName,
}

impl Malformed {
    /// The fatal alert for the client.
    pub fn alert(self) -> Alert {
        match self {
            Malformed::NotTls => Alert::UnexpectedMessage,
            Malformed::Content(_) | Malformed::TooLong => Alert::DecodeError,
            Malformed::TwoNames | Malformed::BadName => Alert::IllegalParameter,
        }
    }

    /// The reason as a sentence for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Malformed::NotTls => "the client does not speak TLS",
            Malformed::Content(reason) => reason,
            Malformed::TooLong => "the ClientHello is longer than 64 KiB",
            Malformed::TwoNames => "the ClientHello has two server names",
            Malformed::BadName => "the server name in the ClientHello is no host name",
        }
    }
}

/// A fatal alert of TLS (RFC 8446 section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub enum Alert {
    UnexpectedMessage = 10,
    IllegalParameter = 47,
    DecodeError = 50,
    InternalError = 80,
    UnrecognizedName = 112,
    NoApplicationProtocol = 120,
}

impl Alert {
    /// The record that tells a client which has sent only its hello so far.
    pub fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}

/// Reads a hello that arrives in pieces.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Bytes of the input whose records are complete and have been read.
    read: usize,
    /// The content of those records.
    handshake: Vec<u8>,
}

impl HelloReader {
    /// Reads on. `received` is everything that has arrived on the connection; the same bytes must be given again, with
    /// more behind them, until there is a result. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The bytes cannot become an acceptable hello.
    pub fn advance(&mut self, received: &[u8]) -> Result<Option<ClientHello>, Malformed> {
        loop {
            let Some((content, end)) = record(received, self.read)? else {
                return if received.len() > MOST_RECEIVED { Err(Malformed::TooLong) } else { Ok(None) };
            };
            if self.handshake.is_empty()
                && let Some(whole) = message(content)?
            {
                // The usual case: one record holds all of it, and nothing is copied.
                return parse(whole).map(Some);
            }
            self.handshake.extend_from_slice(content);
            self.read = end;
            if let Some(whole) = message(&self.handshake)? {
                return parse(whole).map(Some);
            }
        }
    }
}

/// The content of the record at `from`, and where it ends. `None` if it is not complete.
fn record(received: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let rest = &received[from..];
    match rest {
        [] => return Ok(None),
        [22, ..] => {}
        _ if from == 0 => return Err(Malformed::NotTls),
        _ => return Err(Malformed::Content("a record of another kind interrupts the ClientHello")),
    }
    if rest.get(1).is_some_and(|major| *major != 3) {
        return Err(Malformed::NotTls);
    }
    let Some(header) = rest.get(..RECORD_HEADER) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length == 0 || length > MOST_IN_RECORD {
        return Err(Malformed::Content("a record of the ClientHello is empty or over 16 KiB"));
    }
    let end = RECORD_HEADER + length;
    Ok(rest.get(RECORD_HEADER..end).map(|content| (content, from + end)))
}

/// The body of the handshake message if it is complete.
fn message(handshake: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    if handshake.first().is_some_and(|kind| *kind != 1) {
        return Err(Malformed::Content("the first handshake message is no ClientHello"));
    }
    let Some(header) = handshake.get(..HANDSHAKE_HEADER) else { return Ok(None) };
    let length = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    if length > MOST_BYTES {
        return Err(Malformed::TooLong);
    }
    let body = &handshake[HANDSHAKE_HEADER..];
    if body.len() > length {
        return Err(Malformed::Content("more follows the ClientHello in its record"));
    }
    Ok((body.len() == length).then_some(body))
}

fn parse(body: &[u8]) -> Result<ClientHello, Malformed> {
    let mut rest = Fields(body);
    rest.take(2 + 32)?;
    if rest.short()?.len() > 32 {
        return Err(Malformed::Content("the session id of the ClientHello is too long"));
    }
    let suites = rest.long()?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err(Malformed::Content("the cipher suites of the ClientHello are malformed"));
    }
    if rest.short()?.is_empty() {
        return Err(Malformed::Content("the ClientHello has no compression method"));
    }
    let mut hello = ClientHello::default();
    if rest.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Fields(rest.long()?);
    if !rest.0.is_empty() {
        return Err(TRUNCATED);
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        match kind {
            SERVER_NAME if std::mem::replace(&mut named, true) => return Err(Malformed::TwoNames),
            SERVER_NAME => hello.server_name = server_name(content)?,
            ALPN if std::mem::replace(&mut offered, true) => {
                return Err(Malformed::Content("the ClientHello has two ALPN extensions"));
            }
            ALPN => hello.alpn = protocols(content)?,
            _ => {}
        }
    }
    Ok(hello)
}

fn server_name(content: &[u8]) -> Result<Option<Box<str>>, Malformed> {
    let mut rest = Fields(content);
    let mut names = Fields(rest.long()?);
    if !rest.0.is_empty() || names.0.is_empty() {
        return Err(TRUNCATED);
    }
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.long()?;
        if kind == 0 && found.replace(name).is_some() {
            return Err(Malformed::TwoNames);
        }
    }
    found.map_or(Ok(None), host)
}

/// The name in lower case and without a trailing dot. `None` for an address.
fn host(name: &[u8]) -> Result<Option<Box<str>>, Malformed> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let text = std::str::from_utf8(name).map_err(|_| Malformed::BadName)?;
    if text.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    // Underscores are no part of host names, but are in use.
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > 253 || !text.split('.').all(is_label) {
        return Err(Malformed::BadName);
    }
    Ok(Some(text.to_ascii_lowercase().into()))
}

fn protocols(content: &[u8]) -> Result<Vec<Box<[u8]>>, Malformed> {
    let mut rest = Fields(content);
    let mut list = Fields(rest.long()?);
    if !rest.0.is_empty() || list.0.is_empty() {
        return Err(TRUNCATED);
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.short()?;
        if protocol.is_empty() {
            return Err(Malformed::Content("the ClientHello offers an application protocol without a name"));
        }
        protocols.push(protocol.into());
    }
    Ok(protocols)
}

const TRUNCATED: Malformed = Malformed::Content("a length in the ClientHello does not fit");

/// What is left of a structure.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with a length of one byte.
    fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// A vector with a length of two bytes.
    fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;
