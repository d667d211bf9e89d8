//! Calls and streams of gRPC over HTTP/2 (the protocol is described in gRPC's `PROTOCOL-HTTP2.md`). Messages are not
//! compressed. The size of what a server sends, and the time for an answer, are bounded.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use witgate_config::model::RegistryServers;

use super::{ANSWER, Driver, connect};
use crate::text::one_line;

/// The most bytes of a message from a server.
const LARGEST: usize = 16 << 20;
/// The bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The time after which a silent connection is probed, and the time for the reply. etcd accepts a probe every 5 seconds.
const PROBE: Duration = Duration::from_secs(15);

/// The codes of gRPC that are told apart here.
pub(crate) mod code {
    pub(crate) const INVALID_ARGUMENT: u32 = 3;
    pub(crate) const PERMISSION_DENIED: u32 = 7;
    pub(crate) const FAILED_PRECONDITION: u32 = 9;
    pub(crate) const UNAUTHENTICATED: u32 = 16;
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The code that the server gave; `None` if it gave none.
    pub(crate) code: Option<u32>,
    /// Why, in one line of bounded length.
    pub(crate) message: String,
}

impl Failed {
    fn here(message: impl Into<String>) -> Failed {
        Failed { code: None, message: message.into() }
    }

    fn of(error: &hyper::Error) -> Failed {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        Failed::here(one_line(&format!("{error}{}", cause.unwrap_or_default())))
    }

    /// The failure that the headers or trailers of an answer tell, if they tell one.
    fn told(headers: &HeaderMap) -> Option<Failed> {
        let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
        let message = headers.get("grpc-message").and_then(|message| message.to_str().ok());
        let message = percent_decode_str(message.unwrap_or_default()).decode_utf8_lossy();
        (code != Some(0)).then(|| Failed { code, message: one_line(&message) })
    }
}

/// The messages of a request, each with its prefix.
struct Messages(mpsc::Receiver<Bytes>);

impl Body for Messages {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}

/// A connection to one server.
pub(crate) struct Grpc {
    sender: SendRequest<Messages>,
    authority: String,
    scheme: &'static str,
    /// What is sent with each call.
    metadata: HeaderMap,
    _driver: Driver,
}

impl Grpc {
    /// Connects to a server.
    pub(crate) async fn open(servers: &RegistryServers, host: &str, port: u16) -> Result<Grpc, String> {
        let stream = connect(servers, host, port, b"h2").await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PROBE).keep_alive_timeout(PROBE);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| Failed::of(&error).message)?;
        let driver = Driver::spawn(async move {
            // A failure of the connection is a failure of the calls on it.
            let _ = connection.await;
        });
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let scheme = if servers.tls.is_some() { "https" } else { "http" };
        Ok(Grpc { sender, authority, scheme, metadata: HeaderMap::new(), _driver: driver })
    }

    /// Sends this with each further call.
    pub(crate) fn send_always(&mut self, name: &'static str, value: &str) -> Result<(), String> {
        let value = HeaderValue::from_str(value);
        let mut value = value.map_err(|_| format!("`{name}` has characters that no header may have"))?;
        value.set_sensitive(true);
        self.metadata.insert(HeaderName::from_static(name), value);
        Ok(())
    }

    /// A call with one message and one answer.
    pub(crate) async fn call<A: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<A, Failed> {
        let answer = async {
            let (requests, mut answers) = self.begin(method, message).await?;
            drop(requests);
            answers.next().await
        };
        timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(late()))
    }

    /// A call in which both sides send any number of messages. It begins with this message.
    pub(crate) async fn stream<A: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<(Requests, Answers<A>), Failed> {
        timeout(ANSWER, self.begin(method, message)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn begin<A: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<(Requests, Answers<A>), Failed> {
        let (sender, receiver) = mpsc::channel(4);
        let requests = Requests(sender);
        requests.send(message);
        let mut request = Request::post(format!("{}://{}{method}", self.scheme, self.authority))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Messages(receiver))
            .map_err(|error| Failed::here(error.to_string()))?;
        request.headers_mut().extend(self.metadata.clone());
        let failed = |error: hyper::Error| Failed::of(&error);
        self.sender.ready().await.map_err(failed)?;
        let response = self.sender.send_request(request).await.map_err(failed)?;
        Ok((requests, Answers::of(response)?))
    }
}

fn late() -> Failed {
    Failed::here(format!("no answer within {} seconds", ANSWER.as_secs()))
}

/// Where the messages of a stream are sent.
pub(crate) struct Requests(mpsc::Sender<Bytes>);

impl Requests {
    /// Sends a message. If the server takes none, it is dropped: the answers show that something is wrong.
    pub(crate) fn send(&self, message: &impl Message) {
        let length = message.encoded_len();
        let mut framed = BytesMut::with_capacity(PREFIX + length);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        message.encode_raw(&mut framed);
        let _ = self.0.try_send(framed.freeze());
    }
}

/// The answers of a call.
pub(crate) struct Answers<A> {
    body: Incoming,
    buffer: BytesMut,
    kind: std::marker::PhantomData<A>,
}

impl<A: Message + Default> Answers<A> {
    fn of(response: Response<Incoming>) -> Result<Answers<A>, Failed> {
        if let Some(failed) = Failed::told(response.headers()) {
            return Err(failed);
        }
        let is_grpc = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if response.status() != 200 || !is_grpc {
            let message = format!("the server answers {} and does not speak gRPC", response.status());
            return Err(Failed::here(message));
        }
        Ok(Answers { body: response.into_body(), buffer: BytesMut::new(), kind: std::marker::PhantomData })
    }

    /// The next message. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<A, Failed> {
        loop {
            if let Some(message) = take(&mut self.buffer)? {
                return A::decode(message).map_err(|error| Failed::here(one_line(&error.to_string())));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let told = frame.trailers_ref().and_then(Failed::told);
                        return Err(told.unwrap_or_else(ended));
                    }
                },
                Some(Err(error)) => return Err(Failed::of(&error)),
                None => return Err(ended()),
            }
        }
    }
}

fn ended() -> Failed {
    Failed::here("the server ended the call")
}

/// Takes the first message out of a buffer, if all of it is there.
fn take(buffer: &mut BytesMut) -> Result<Option<Bytes>, Failed> {
    let Some(prefix) = buffer.get(..PREFIX) else { return Ok(None) };
    let length = (&prefix[1..]).get_u32() as usize;
    if prefix[0] != 0 {
        return Err(Failed::here("the server sends a compressed message, which was not asked for"));
    }
    if length > LARGEST {
        return Err(Failed::here(format!("the server sends a message of more than {LARGEST} bytes")));
    }
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_and_only_within_bounds() {
        let mut buffer = BytesMut::from(&b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x03a"[..]);
        let mut next = || take(&mut buffer).unwrap().map(|message| message.to_vec());
        assert_eq!([next(), next(), next()], [Some(b"ab".to_vec()), Some(vec![]), None]);
        assert_eq!(take(&mut BytesMut::from(&b"\0\0\0"[..])), Ok(None));
        for (bytes, words) in [(b"\x01\0\0\0\0", "compressed"), (b"\0\xff\0\0\0", "more than")] {
            let failed = take(&mut BytesMut::from(&bytes[..])).unwrap_err();
            assert!(failed.message.contains(words), "{failed:?}");
        }
    }

    #[test]
    fn failures_are_read_from_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(Failed::told(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(Failed::told(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("7"));
        headers.insert("grpc-message", HeaderValue::from_static("no%0Ayou may not"));
        let expected = Failed { code: Some(7), message: "no you may not".to_owned() };
        assert_eq!(Failed::told(&headers), Some(expected));
        headers.insert("grpc-status", HeaderValue::from_static("x"));
        assert_eq!(Failed::told(&headers).and_then(|failed| failed.code), None);
    }
}
