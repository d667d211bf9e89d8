//! The destination that calls methods of gRPC for requests with JSON.
//!
//! Filters and plugins see the request with its JSON, and the response with its JSON. Only the wrapped destination sees gRPC.
//! Requests that speak gRPC themselves are passed on as they are.

use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use witgate_config::model::Transcode;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::destination::Destination;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Dialect, Fault, FaultKind, connect_error};
use witgate_exchange::grpc::message::{self, CallStatus, MessageReader, framed, whole};
use witgate_exchange::grpc::{
    BridgedCall, Code, GRPC_ACCEPT_ENCODING, GRPC_ENCODING, GRPC_TIMEOUT, connect_timeout,
};

use crate::answer::{self, Answers, Stream};
use crate::bindings::{Binding, Bindings, BodyField, Found};
use crate::request;

/// Headers that describe the JSON of the request, or Connect, and nothing of the call.
const OF_REQUEST: [HeaderName; 8] = [
    ACCEPT,
    ACCEPT_ENCODING,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    GRPC_ENCODING,
    GRPC_ACCEPT_ENCODING,
    HeaderName::from_static("connect-protocol-version"),
    CONNECT_TIMEOUT,
];
const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// Calls the methods of its bindings.
pub(crate) struct Transcoding {
    inner: Arc<dyn Destination>,
    bindings: Arc<Bindings>,
    settings: Transcode,
}

impl Transcoding {
    pub(crate) fn new(inner: Arc<dyn Destination>, bindings: Arc<Bindings>, settings: Transcode) -> Self {
        Transcoding { inner, bindings, settings }
    }

    async fn serve_json(&self, facts: &mut Facts, body: Body) -> Result<Response<Body>, Fault> {
        let connect = facts.dialect == Dialect::Connect;
        let path = facts.head.upstream_target.as_ref().unwrap_or(&facts.head.target).path().to_owned();
        let (binding, variables) = match self.bindings.find(&facts.head.method, &path) {
            _ if connect => (self.bindings.named(&path).ok_or_else(unknown)?, Vec::new()),
            Found::Call(binding, variables) => (binding, variables),
            Found::OtherMethods(methods) => return Err(other_methods(&methods)),
            Found::Nothing => return Err(unknown()),
        };
        let call = BridgedCall::new(binding.name.clone());
        facts.record.bridged = Some(call.clone());
        check_body(&facts.head.headers, &binding.body, &body)?;
        let bytes = whole(body, message::MOST).await?;
        let query = facts.head.query().filter(|_| !connect);
        let ignore = self.settings.ignore_unknown_query;
        let message = request::message(binding, &variables, query, &bytes, ignore)?;
        let encoded = prost_reflect::prost::Message::encode_to_vec(&message);
        let answers = Answers {
            output: binding.call.output(),
            field: binding.response_body.clone(),
            form: self.settings.json,
        };
        let accept = facts.head.headers.get(ACCEPT).cloned();
        let response = self.call(facts, binding, &encoded).await?;
        match binding.call.is_server_streaming() {
            true if connect => Err(Fault::new(FaultKind::UnsupportedEncoding)
                .detail("this method answers with a stream, which unary calls of Connect cannot have")),
            true => Ok(self.stream(response, answers, accept.as_ref(), call)),
            false => unary(response, &answers, &call, connect).await,
        }
    }

    /// Calls the method. Afterwards the head is as the client has sent it again.
    async fn call(
        &self,
        facts: &mut Facts,
        binding: &Binding,
        message: &[u8],
    ) -> Result<Response<Body>, Fault> {
        let target = PathAndQuery::try_from(binding.path()).map_err(|_| Fault::new(FaultKind::BadPath))?;
        let head = Arc::make_mut(&mut facts.head);
        let mut headers = head.headers.clone();
        if let Some(timeout) = headers.get(CONNECT_TIMEOUT).filter(|_| facts.dialect == Dialect::Connect) {
            let timeout = connect_timeout(timeout).ok_or_else(|| {
                Fault::new(FaultKind::BadRequest).detail("`connect-timeout-ms` is no time limit")
            })?;
            headers.insert(GRPC_TIMEOUT, timeout);
        }
        OF_REQUEST.iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let sent = std::mem::replace(&mut head.headers, headers);
        let method = head.upstream_method.replace(Method::POST);
        let target = head.upstream_target.replace(target);
        let response = self.inner.serve(facts, Body::from(framed(false, message))).await;
        let head = Arc::make_mut(&mut facts.head);
        (head.headers, head.upstream_method, head.upstream_target) = (sent, method, target);
        response
    }

    fn stream(
        &self,
        response: Response<Body>,
        answers: Answers,
        accept: Option<&HeaderValue>,
        call: BridgedCall,
    ) -> Response<Body> {
        if let Some(status) = CallStatus::of_head(&response).filter(|status| status.code != Code::OK) {
            call.end(status.code);
            return error(&answers, &status, response.headers(), None, false);
        }
        let form = answer::stream_form(accept, self.settings.streams);
        let (parts, body) = response.into_parts();
        let mut response = Response::new(Body::Empty);
        copy_metadata(response.headers_mut(), &parts.headers, None);
        response.headers_mut().insert(CONTENT_TYPE, answer::content_type(form));
        let reader = MessageReader::new(body);
        *response.body_mut() =
            Body::wrap(Stream { reader, answers, form, call, count: 0, ended: false, fault: None });
        response
    }
}

impl Destination for Transcoding {
    fn choose(&self, facts: &mut Facts) -> Result<bool, Fault> {
        self.inner.choose(facts)
    }

    fn reads_body(&self) -> bool {
        self.inner.reads_body()
    }

    fn serve<'a>(
        &'a self,
        facts: &'a mut Facts,
        body: Body,
    ) -> MaybeReady<'a, Result<Response<Body>, Fault>> {
        let is_json = match facts.dialect {
            Dialect::Problem => true,
            Dialect::Connect => facts.head.method == Method::POST && says_json(&facts.head.headers),
            Dialect::Grpc | Dialect::GrpcWeb(_) => false,
        };
        match is_json {
            true => MaybeReady::waiting(self.serve_json(facts, body)),
            false => self.inner.serve(facts, body),
        }
    }
}

/// Whether the content type is that of JSON, or of a format on its base.
fn says_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// A body must be JSON: the content type is what keeps web pages from sending it without having asked.
fn check_body(headers: &HeaderMap, expected: &BodyField, body: &Body) -> Result<(), Fault> {
    if http_body::Body::is_end_stream(body) {
        return Ok(());
    }
    if matches!(expected, BodyField::Nothing) {
        return Err(Fault::new(FaultKind::BadRequest).detail("this method has no field for a body"));
    }
    let is_coded = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if is_coded || (headers.contains_key(CONTENT_TYPE) && !says_json(headers)) {
        let fault = Fault::new(FaultKind::UnsupportedEncoding);
        return Err(
            fault.detail("the body must be JSON (`content-type: application/json`) without a content coding")
        );
    }
    Ok(())
}

fn unknown() -> Fault {
    Fault::new(FaultKind::NoRoute).detail("no method of the services has this path")
}

fn other_methods(methods: &[&str]) -> Fault {
    let allowed = HeaderValue::from_str(&methods.join(", "));
    let fault = Fault::new(FaultKind::MethodNotAllowed);
    allowed.map_or(Fault::new(FaultKind::MethodNotAllowed), |allowed| fault.header(ALLOW, allowed))
}

/// The response for the answer of a unary call, which is read to its end, because only the end says whether it is a success.
async fn unary(
    response: Response<Body>,
    answers: &Answers,
    call: &BridgedCall,
    connect: bool,
) -> Result<Response<Body>, Fault> {
    let head_status = CallStatus::of_head(&response);
    let (parts, body) = response.into_parts();
    let mut reader = MessageReader::new(body);
    let (found, mut status) = match head_status {
        Some(status) => (None, status),
        None => {
            let found = reader.next().await?;
            if reader.next().await?.is_some() {
                let cause = "a unary call was answered with several messages";
                return Err(Fault::new(FaultKind::UpstreamProtocol).cause(cause));
            }
            (found, reader.status())
        }
    };
    if status.code == Code::OK && found.is_none() {
        status = CallStatus::new(Code::INTERNAL, "the call ended without a message");
    }
    call.end(status.code);
    if status.code != Code::OK {
        return Ok(error(answers, &status, &parts.headers, reader.trailers(), connect));
    }
    let json = found.map(|found| answers.json(&found)).transpose()?.unwrap_or_default();
    Ok(document(StatusCode::OK, json, &parts.headers, reader.trailers()))
}

/// The response for a call that has failed.
fn error(
    answers: &Answers,
    status: &CallStatus,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
    connect: bool,
) -> Response<Body> {
    let json = match connect {
        true => connect_error(status.code, &status.message, &status.details),
        false => answers.error(status).to_string().into(),
    };
    document(status.code.http_status(), json, headers, trailers)
}

fn document(
    status: StatusCode,
    json: bytes::Bytes,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    copy_metadata(response.headers_mut(), headers, trailers);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(json.len()));
    *response.body_mut() = Body::from(json);
    response
}

/// The metadata of an answer as headers; that of its end with `trailer-` before the names.
fn copy_metadata(into: &mut HeaderMap, headers: &HeaderMap, trailers: Option<&HeaderMap>) {
    let leading = message::metadata(headers, "");
    let trailing = trailers.into_iter().flat_map(|trailers| message::metadata(trailers, "trailer-"));
    for (name, value) in leading.chain(trailing) {
        into.append(name, value.clone());
    }
    for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
        into.remove(name);
    }
}
