//! `http`: sends a request, and expects a status and a body. Choose it for every service that has a path for it,
//! since this kind of check covers the most.

use std::convert::Infallible;

use ::http::header::{HOST, USER_AGENT};
use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use tokio::task::JoinHandle;
use witgate_config::model::{BodyCheck, HttpCheck};
use witgate_exchange::trace::{self, TRACEPARENT};

use super::Why;
use crate::connection::OwnCore;
use crate::connection::socket::Socket;
use crate::endpoint::Endpoint;
use crate::response::failure::chain;

/// A prepared check: the request, and what is expected of the response.
pub(crate) struct Question {
    method: Method,
    path: PathAndQuery,
    host: Option<HeaderValue>,
    headers: HeaderMap,
    statuses: Vec<(u16, u16)>,
    body: Option<Expected>,
    body_limit: usize,
}

/// What the body must contain.
enum Expected {
    Text(String),
    Match(Regex),
}

/// The key concerned, the problem, and a hint.
type Mistake = (&'static str, String, &'static str);

impl Question {
    /// Builds the check from its configuration.
    ///
    /// # Errors
    /// Values that are invalid in a request, or an invalid regular expression.
    pub(crate) fn build(check: &HttpCheck) -> Result<Question, Mistake> {
        let in_request = "it must be something that can stand in a request";
        let method = Method::from_bytes(check.method.as_bytes());
        let host = check.host.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Question {
            method: method.map_err(|error| ("method", error.to_string(), in_request))?,
            path: check.path.parse().map_err(|error| ("path", format!("{error}"), in_request))?,
            host: host.map_err(|error| ("host", error.to_string(), in_request))?,
            headers: headers(check).map_err(|message| ("headers", message, in_request))?,
            statuses: check.statuses.clone(),
            body: check.body.as_ref().map(expected).transpose()?,
            body_limit: check.body_limit,
        })
    }

    /// Sends the request and checks the response.
    pub(crate) async fn ask(
        &self,
        socket: Socket,
        endpoint: &Endpoint,
        scheme: Option<&str>,
    ) -> Result<(), Why> {
        let (response, _connection) = send(socket, self.request(endpoint, scheme)?).await?;
        let status = response.status().as_u16();
        if !self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
            return Err(format!("status {status}"));
        }
        // The body is read even if nothing is expected of it, because an incomplete response is a failure.
        let body = read(response.into_body(), self.body_limit).await?;
        match &self.body {
            Some(expected) if !expected.is_in(&body) => Err("the body is not as expected".to_owned()),
            _ => Ok(()),
        }
    }

    fn request(&self, endpoint: &Endpoint, scheme: Option<&str>) -> Result<Request<Full<Bytes>>, Why> {
        let host = self.host.as_ref().unwrap_or(&endpoint.authority);
        let mut request = Request::new(Full::default());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        // Checks are not traced, since they may be sent every second, unless the operator configures trace
        // headers.
        request.headers_mut().entry(TRACEPARENT).or_insert_with(trace::untraced);
        match scheme {
            Some(scheme) => {
                let uri = Uri::builder().scheme(scheme).authority(host.as_bytes());
                let uri = uri.path_and_query(self.path.clone()).build();
                *request.uri_mut() = uri.map_err(|error| error.to_string())?;
            }
            None => {
                *request.uri_mut() = self.path.clone().into();
                request.headers_mut().insert(HOST, host.clone());
            }
        }
        Ok(request)
    }
}

fn headers(check: &HttpCheck) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("witgate-health"));
    for (name, value) in &check.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        headers.insert(name, HeaderValue::from_str(value).map_err(|error| error.to_string())?);
    }
    Ok(headers)
}

fn expected(body: &BodyCheck) -> Result<Expected, Mistake> {
    match body {
        BodyCheck::Contains(text) => Ok(Expected::Text(text.clone())),
        BodyCheck::Matches(regex) => Regex::new(regex).map(Expected::Match).map_err(|error| {
            (
                "body_regex",
                error.to_string(),
                "it is read as by the Rust crate `regex`; look-around is not known",
            )
        }),
    }
}

impl Expected {
    fn is_in(&self, body: &[u8]) -> bool {
        match self {
            Expected::Text(text) => memchr::memmem::find(body, text.as_bytes()).is_some(),
            Expected::Match(regex) => regex.is_match(body),
        }
    }
}

/// A running connection. It is closed when this is dropped.
pub(crate) struct Connected(JoinHandle<()>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request over a connection of its own, with HTTP/2 if it has an absolute URI.
pub(crate) async fn send<B>(
    socket: Socket,
    request: Request<B>,
) -> Result<(Response<Incoming>, Connected), Why>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin + 'static,
{
    let why = |error: hyper::Error| chain(&error);
    if request.uri().scheme().is_some() {
        let (mut sender, connection) = http2::handshake(OwnCore, TokioIo::new(socket)).await.map_err(why)?;
        let connected = Connected(tokio::task::spawn_local(async move { drop(connection.await) }));
        return Ok((sender.send_request(request).await.map_err(why)?, connected));
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(why)?;
    let connected = Connected(tokio::task::spawn_local(async move { drop(connection.await) }));
    Ok((sender.send_request(request).await.map_err(why)?, connected))
}

/// Reads a body up to a limit.
async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Why> {
    let mut bytes = Vec::new();
    while bytes.len() < limit
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame.map_err(|error| chain(&error))?.into_data() {
            bytes.extend_from_slice(&data[..data.len().min(limit - bytes.len())]);
        }
    }
    Ok(bytes)
}
