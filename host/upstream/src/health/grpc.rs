//! `grpc`: the gRPC health protocol, `grpc.health.v1.Health/Check`. Choose it for gRPC services, whose frameworks
//! support it.

use ::http::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use ::http::{HeaderMap, Method, Request, Uri};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use witgate_exchange::trace::{self, TRACEPARENT};

use super::Why;
use super::http::send;
use crate::connection::socket::Socket;
use crate::endpoint::Endpoint;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// The most bytes of a response. Its message is two bytes long.
const ANSWER_BYTES: usize = 4096;

/// The bytes before a message: whether it is compressed (1 byte), and its length (4 bytes).
const PREFIX: usize = 5;

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub(crate) status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// A prepared check.
pub(crate) struct Question {
    request: Bytes,
}

impl Question {
    /// Checks a service. An empty name checks the server as a whole.
    pub(crate) fn new(service: &str) -> Question {
        Question { request: framed(&HealthCheckRequest { service: service.to_owned() }) }
    }

    /// Sends the check, and expects `SERVING`.
    pub(crate) async fn ask(
        &self,
        socket: Socket,
        endpoint: &Endpoint,
        scheme: Option<&str>,
    ) -> Result<(), Why> {
        let uri = Uri::builder().scheme(scheme.unwrap_or("http")).authority(endpoint.authority.as_bytes());
        let mut request = Request::new(Full::new(self.request.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.path_and_query(PATH).build().map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static("witgate-health"));
        headers.insert(TRACEPARENT, trace::untraced());
        let (response, _connection) = send(socket, request).await?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
        // A response without a message has its `grpc-status` in the head.
        check_status(body.trailers().unwrap_or(&head.headers))?;
        match status(&body.to_bytes())? {
            ServingStatus::Serving => Ok(()),
            ServingStatus::NotServing => Err("NOT_SERVING".to_owned()),
            ServingStatus::ServiceUnknown => Err("SERVICE_UNKNOWN".to_owned()),
            ServingStatus::Unknown => Err("UNKNOWN".to_owned()),
        }
    }
}

/// Checks that `grpc-status` is present and 0.
fn check_status(headers: &HeaderMap) -> Result<(), Why> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        Some(status) => Err(format!("grpc-status {}", status.escape_ascii())),
        None => Err("there is no grpc-status".to_owned()),
    }
}

fn status(body: &[u8]) -> Result<ServingStatus, Why> {
    let message = match body.split_at_checked(PREFIX) {
        Some((prefix, message)) if prefix[0] == 0 => message,
        _ => return Err("the answer is no message".to_owned()),
    };
    let response = HealthCheckResponse::decode(message).map_err(|error| error.to_string())?;
    ServingStatus::try_from(response.status).map_err(|_| format!("unknown status {}", response.status))
}

/// A message in the framing of gRPC, not compressed.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}
