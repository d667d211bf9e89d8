//! Requests over HTTP/1.1 to a server of a registry. The size of what it sends, and the time that it takes, are bounded.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use witgate_config::file;
use witgate_config::model::RegistryServers;

use super::{Driver, connect};
use crate::text::one_line;

/// The most bytes of an answer. 10,000 instances in Consul's form take about half of it.
pub(crate) const LARGEST: usize = 64 << 20;
/// The time for an answer's body once its head is there.
pub(crate) const BODY: Duration = Duration::from_secs(30);
/// The most bytes of an answer that is an error.
const LARGEST_ERROR: usize = 16 << 10;
/// The most bytes of one line: an EndpointSlice has at most 1,000 endpoints.
const LONGEST_LINE: usize = 8 << 20;

/// A connection to one server.
pub(crate) struct Http {
    sender: SendRequest<Empty<Bytes>>,
    host: HeaderValue,
    _driver: Driver,
}

/// How a request shows who sends it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credential<'a> {
    /// It does not.
    None,
    /// A header with a token.
    Token(&'static str, &'a str),
    /// `authorization: Bearer` (RFC 6750).
    Bearer(&'a str),
}

impl Http {
    /// Connects to a server.
    pub(crate) async fn open(servers: &RegistryServers, host: &str, port: u16) -> Result<Http, String> {
        let stream = connect(servers, host, port, b"http/1.1").await?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("no HTTP: {}", one_line(&error.to_string())))?;
        let driver = Driver::spawn(async move {
            // A failure of the connection is a failure of the request on it.
            let _ = connection.await;
        });
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let host = HeaderValue::from_str(&authority).map_err(|error| error.to_string())?;
        Ok(Http { sender, host, _driver: driver })
    }

    /// Whether another request can be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a GET request, and waits for the head of the answer.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        credential: Credential<'_>,
        patience: Duration,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::get(path)
            .header(HOST, &self.host)
            .header(USER_AGENT, "witgate")
            .header(ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let (name, value) = match credential {
            Credential::None => (AUTHORIZATION, None),
            Credential::Token(name, token) => (HeaderName::from_static(name), Some(token.to_owned())),
            Credential::Bearer(token) => (AUTHORIZATION, Some(format!("Bearer {token}"))),
        };
        if let Some(value) = value {
            let value = HeaderValue::from_str(&value);
            let mut value =
                value.map_err(|_| "the token has characters that no header may have".to_owned())?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match timeout(patience, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(format!("the request failed: {}", told(&error))),
            Err(_) => Err(format!("no answer within {} seconds", patience.as_secs())),
        }
    }
}

/// The words of an error with those of its cause.
fn told(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    one_line(&format!("{error}{}", cause.unwrap_or_default()))
}

/// The whole body of an answer.
pub(crate) async fn whole(response: Response<Incoming>, most: usize) -> Result<Bytes, String> {
    if response.body().size_hint().lower() > most as u64 {
        return Err(format!("the answer has more than {most} bytes"));
    }
    match timeout(BODY, Limited::new(response.into_body(), most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => format!("the answer broke off: {}", told(&error)),
            Err(_) => format!("the answer has more than {most} bytes"),
        }),
        Err(_) => Err(format!("the answer did not end within {} seconds", BODY.as_secs())),
    }
}

/// The status and the text of an answer that is an error. Callers show one line of it.
pub(crate) async fn refusal(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let text = whole(response, LARGEST_ERROR).await.unwrap_or_default();
    (status, String::from_utf8_lossy(&text).into_owned())
}

/// The token in a file. Read for each request, because tokens are rotated.
pub(crate) fn token(path: Option<&Path>) -> Result<Option<String>, String> {
    let Some(path) = path else { return Ok(None) };
    match file::read_text(path, file::SECRET) {
        Ok(token) => Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) => Err(format!("cannot read the token in `{}`: {error}", path.display())),
    }
}

/// The lines of an answer that goes on.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// How many bytes at the beginning of the buffer have no line break.
    searched: usize,
}

impl Lines {
    pub(crate) fn of(response: Response<Incoming>) -> Lines {
        Lines { body: response.into_body(), buffer: Vec::new(), searched: 0 }
    }

    /// The next line without its line break; `None` at the end, which may come too early. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LONGEST_LINE {
                return Err(format!("a line of the answer has more than {LONGEST_LINE} bytes"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}
