//! gRPC-Web (PROTOCOL-WEB of gRPC): the messages are those of gRPC, the trailers are a last frame of the body, and in the
//! form for text everything is in base64.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;
use witgate_exchange::grpc::details;
use witgate_exchange::grpc::message::CallStatus;
use witgate_exchange::grpc::{BridgedCall, Code, GRPC_MESSAGE, GRPC_STATUS, encode_message};
use witgate_exchange::grpc_messages;

use super::{Translated, bad, upstream_target};

/// Marks requests of the protocol for browsers' sake.
const GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");

/// The bit of a prefix that marks the frame with the trailers.
const TRAILERS: u8 = 0x80;

/// The call of gRPC for a request; `text`: its body is in base64.
pub(super) fn request(facts: &Facts, body: Body, text: bool) -> Result<Translated, Fault> {
    if facts.head.method != Method::POST {
        return Err(bad("a call of gRPC-Web is a POST"));
    }
    let mut headers = facts.head.headers.clone();
    headers.remove(GRPC_WEB);
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, kind("application/grpc", format(&headers)));
    let body = if text { Body::wrap(Decoded { body, rest: BytesMut::new() }) } else { body };
    // The length of the whole body is limited already.
    let body = grpc_messages::enforced(body, u64::MAX);
    Ok(Translated { headers, method: Method::POST, target: upstream_target(facts).clone(), body })
}

/// The message format in a content type (`+proto`); empty if there is none.
fn format(headers: &HeaderMap) -> &str {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.find('+').map_or("", |plus| &kind[plus..])
}

fn kind(protocol: &str, format: &str) -> HeaderValue {
    let format = if format.is_empty() { "+proto" } else { format };
    HeaderValue::from_str(&format!("{protocol}{format}"))
        .unwrap_or(HeaderValue::from_static("application/grpc+proto"))
}

/// The response of gRPC-Web for one of gRPC. A status that is known with the head stays in the headers.
pub(super) fn response(mut response: Response<Body>, text: bool, call: BridgedCall) -> Response<Body> {
    let protocol = if text { "application/grpc-web-text" } else { "application/grpc-web" };
    let content_type = kind(protocol, format(response.headers()));
    if let Some(status) = CallStatus::of_head(&response) {
        call.end(status.code);
        let headers = response.headers_mut();
        if !headers.contains_key(GRPC_STATUS) {
            headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status.code.number())));
            headers.insert(GRPC_MESSAGE, encode_message(&status.message));
        }
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, kind(protocol, ""));
        *response.body_mut() = Body::Empty;
        *response.status_mut() = StatusCode::OK;
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
    let body = std::mem::take(response.body_mut());
    *response.body_mut() = Body::wrap(Encoded { body: Some(body), text, call });
    response
}

/// A body of gRPC in the form of gRPC-Web. Each piece is passed on as it comes.
struct Encoded {
    /// `None` once the trailers are out.
    body: Option<Body>,
    text: bool,
    call: BridgedCall,
}

impl Encoded {
    /// The frame with the trailers. A call that ended without a status is `UNKNOWN`.
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Bytes {
        self.body = None;
        let mut lines = Vec::new();
        for (name, value) in trailers.into_iter().flatten() {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
        let code = trailers.and_then(Code::among).unwrap_or_else(|| {
            let status = CallStatus::missing();
            let message = encode_message(&status.message);
            let text = format!("{GRPC_STATUS}: {}\r\n{GRPC_MESSAGE}: ", status.code.number());
            lines.extend_from_slice(text.as_bytes());
            lines.extend_from_slice(message.as_bytes());
            lines.extend_from_slice(b"\r\n");
            status.code
        });
        self.call.end(code);
        let mut frame = BytesMut::with_capacity(5 + lines.len());
        frame.extend_from_slice(&[TRAILERS]);
        frame.extend_from_slice(&(lines.len() as u32).to_be_bytes());
        frame.extend_from_slice(&lines);
        frame.freeze()
    }
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let bytes = match ready!(Pin::new(body).poll_frame(context)).transpose()? {
            None => this.end(None),
            Some(frame) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => this.end(frame.trailers_ref()),
            },
        };
        let bytes = if this.text { Bytes::from(details::encode_padded(&bytes)) } else { bytes };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }
}

/// A body in base64, decoded as it comes. It may consist of several parts, each with its padding.
struct Decoded {
    body: Body,
    /// Up to three digits of a group that is not complete.
    rest: BytesMut,
}

impl Decoded {
    /// Decodes what is complete.
    fn decode(&mut self, data: &[u8]) -> Result<Bytes, Fault> {
        self.rest.extend_from_slice(data);
        let complete = self.rest.split_to(self.rest.len() / 4 * 4);
        let mut decoded = Vec::with_capacity(complete.len() / 4 * 3);
        // Padding ends a part, so only what is between paddings is decoded at once.
        for part in complete.chunk_by(|before, after| !(*before == b'=' && *after != b'=')) {
            let whole = part.len() % 4 == 0;
            let bytes = whole.then(|| details::decode_binary(part)).flatten();
            decoded.extend(bytes.ok_or_else(|| bad("the body is not base64"))?);
        }
        Ok(Bytes::from(decoded))
    }
}

impl HttpBody for Decoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(context)).transpose()?;
            let decoded = match frame.map(Frame::into_data) {
                Some(Ok(data)) => this.decode(&data),
                Some(Err(_)) => continue,
                None if this.rest.is_empty() => return Poll::Ready(None),
                None => Err(bad("the base64 of the body ends within a group")),
            };
            match decoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(fault) => return Poll::Ready(Some(Err(Box::new(fault)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a text that comes in pieces of this size.
    fn decoded(text: &str, piece: usize) -> Option<Vec<u8>> {
        let mut decoder = Decoded { body: Body::Empty, rest: BytesMut::new() };
        let mut bytes = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            bytes.extend_from_slice(&decoder.decode(piece).ok()?);
        }
        decoder.rest.is_empty().then_some(bytes)
    }

    #[test]
    fn base64_is_decoded_in_pieces_and_in_parts_with_paddings() {
        for piece in [1, 2, 3, 4, 5, 64] {
            assert_eq!(
                decoded("AAAAAAE=YQ==Yg==YWJj", piece).as_deref(),
                Some(&b"\0\0\0\0\x01ababc"[..]),
                "{piece}"
            );
            assert_eq!(decoded("YWJ", piece), None);
            assert_eq!(decoded("Y!Jj", piece), None);
            assert_eq!(decoded("=YWJ", piece), None);
        }
    }
}
