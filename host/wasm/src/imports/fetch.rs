//! Interface `fetch`: outbound HTTP through a named upstream.
//!
//! The caller of the guest runs the exchange: see [`super::mailbox`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response};
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;
use witgate_exchange::trace::{BAGGAGE, TRACEPARENT, TRACESTATE};

use crate::bindings::witgate::plugin::fetch::{Error, Host, InboundResponse, OutboundRequest};
use crate::bindings::witgate::plugin::types::Header;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// Headers that the gateway writes: message framing, and hop-by-hop headers (RFC 9110 section 7.6.1).
const RESERVED: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

type Reply = Result<InboundResponse, Error>;

impl Host for HostState {
    async fn send(&mut self, request: OutboundRequest) -> wasmtime::Result<Reply> {
        self.marked(Mark::Fetch)?;
        if !self.rights.grants.fetch.iter().flatten().any(|granted| *granted == request.upstream) {
            self.rights.meter.grant_refused();
            return Ok(Err(Error::Denied));
        }
        if !self.may_wait() {
            // During its set-up a plugin has no core that could wait, and no upstreams.
            return Ok(Err(Error::Unavailable));
        }
        // Whatever timeout the plugin sets, the fetch ends early enough for the plugin to return a result.
        let left = self.stopwatch.left_to_wait();
        let timeout = request.timeout.map_or(left, |own| left.min(Duration::from_millis(own)));
        let upstream = request.upstream.clone();
        let head = self.head();
        let trace = head.and_then(|head| head.trace.clone());
        let request = match outbound(request, head.map(Arc::as_ref)) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let limit = self.rights.budget.fetch_limit;
        let (reply, answer) = oneshot::channel();
        self.mailbox.put(Box::new(move |fetch| {
            Box::pin(async move {
                let response = fetch.fetch(&upstream, request, trace.as_ref(), Some(timeout), limit).await;
                // The guest may have been dropped by now; then the response is dropped, too.
                let _unheard = reply.send(response.map(inbound).map_err(|fault| refusal(&fault)));
            })
        }));
        // A closed channel means that the caller has dropped the exchange, and with it the call.
        Ok(answer.await.unwrap_or(Err(Error::Unavailable)))
    }
}

/// The `fetch` of a binding that may use no upstream: it returns an error without waiting, so the guest needs no
/// stack of its own.
///
/// # Errors
/// None in practice: each name is defined once.
pub(crate) fn add_denying_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("witgate:plugin/fetch@0.1.0")?;
    interface.func_wrap(
        "send",
        |mut store: StoreContextMut<'_, HostState>, (_request,): (OutboundRequest,)| {
            let state = store.data_mut();
            state.marked(Mark::Fetch)?;
            state.rights.meter.grant_refused();
            Ok((Reply::Err(Error::Denied),))
        },
    )
}

fn invalid(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}

/// The request that is sent to the upstream.
fn outbound(request: OutboundRequest, head: Option<&RequestHead>) -> Result<Request<Bytes>, Error> {
    if !request.path.starts_with('/') {
        return Err(invalid("the path must begin with `/`"));
    }
    let method =
        Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid("the method is not a token"))?;
    let uri = http::uri::PathAndQuery::try_from(request.path)
        .map_err(|_| invalid("the path holds characters that must be percent-encoded"))?;
    let mut outbound = Request::new(Bytes::from(request.body));
    *outbound.method_mut() = method;
    *outbound.uri_mut() = uri.into();
    let headers = outbound.headers_mut();
    for Header { name, value } in request.headers {
        let Ok(name) = HeaderName::try_from(&name) else {
            return Err(invalid(format!("`{}` is not a header name", name.escape_default())));
        };
        if RESERVED.contains(&name) || name == "keep-alive" || name == "proxy-connection" {
            return Err(invalid(format!("`{name}` is the gateway's to set")));
        }
        let value = HeaderValue::try_from(value)
            .map_err(|_| invalid(format!("the value of `{name}` holds control characters")))?;
        if name == HOST {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    if let Some(head) = head {
        pass_trace(head, headers);
    }
    Ok(outbound)
}

/// Copies the trace headers of the request into the outbound request. If the gateway exports spans, it writes
/// `traceparent` and `tracestate` itself. A `baggage` header that the plugin has set is kept.
fn pass_trace(head: &RequestHead, headers: &mut HeaderMap) {
    let came = |name: &HeaderName| head.headers.contains_key(name);
    if head.trace.is_none() && (came(&TRACEPARENT) || came(&TRACESTATE)) {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
        copy(&head.headers, &TRACEPARENT, headers);
        copy(&head.headers, &TRACESTATE, headers);
    }
    if !headers.contains_key(BAGGAGE) {
        copy(&head.headers, &BAGGAGE, headers);
    }
}

/// Copies every value of a header.
fn copy(from: &HeaderMap, name: &HeaderName, to: &mut HeaderMap) {
    for value in from.get_all(name) {
        to.append(name, value.clone());
    }
}

fn inbound(response: Response<Bytes>) -> InboundResponse {
    let headers = response.headers().iter();
    InboundResponse {
        status: response.status().as_u16(),
        headers: headers
            .map(|(name, value)| Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
            .collect(),
        body: response.into_body().into(),
    }
}

fn refusal(fault: &Fault) -> Error {
    match fault.kind {
        FaultKind::ConnectTimeout | FaultKind::FirstByteTimeout | FaultKind::RequestTimeout => Error::Timeout,
        FaultKind::UpstreamProtocol if fault.detail.as_deref() == Some("response too large") => {
            Error::TooLarge
        }
        _ => Error::Unavailable,
    }
}
