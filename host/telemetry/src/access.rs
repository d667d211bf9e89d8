//! The access log: one line of JSON for each request, and for each connection that is forwarded as it is.
//!
//! Query strings and headers are not written unless a route asks for them by the `access-log` filter, because they
//! often contain credentials and personal data. The user agent is the one exception.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Version};
use schemars::JsonSchema;
use serde::Serialize;
use witgate_exchange::contracts::CallFailure;
use witgate_exchange::log_entry::{End, LogEntry};
use witgate_exchange::record::{CacheResult, PluginCall, Repeat};

use crate::metrics::NONE;
use crate::queue::Line;
use crate::session::{SessionEntry, SessionFields};
use crate::timestamp;

/// A line of the access log.
pub(super) enum AccessLine {
    /// Of a request.
    Request(Arc<LogEntry>),
    /// Of a connection that was forwarded as it is, or that ended before its first request.
    Session(Box<SessionEntry>),
}

impl Line for AccessLine {
    fn render(&self, out: &mut Vec<u8>) {
        let written = match self {
            AccessLine::Request(entry) => serde_json::to_writer(&mut *out, &Fields::of(entry)),
            AccessLine::Session(entry) => serde_json::to_writer(&mut *out, &SessionFields::of(entry)),
        };
        written.expect("memory takes everything");
        out.push(b'\n');
    }
}

/// The JSON Schema of a line, which documents each field. The reference page of the access log is generated from
/// it.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<Fields<'static>>().to_value()
}

/// The fields of a line, in order. Fields that do not apply are left out.
#[derive(Serialize, JsonSchema)]
struct Fields<'a> {
    /// When the request ended: UTC with microseconds, as in RFC 3339.
    time: String,
    /// The name of the listener.
    listener: &'a str,
    /// The name of the route; `-` where none matched.
    route: &'a str,
    /// The method the client sent.
    method: &'a str,
    /// `http` or `https`.
    scheme: &'static str,
    /// The authority the request was sent to, in lower case.
    host: &'a str,
    /// The path as the client sent it.
    path: &'a str,
    /// The path as router and plugins saw it, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_normalised: Option<&'a str>,
    /// The path as the upstream saw it, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_upstream: Option<&'a str>,
    /// The query string, where the filter `access-log` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    protocol: &'static str,
    /// The status of the response; 499 where the client went away before there was one; where a gRPC client is told of a fault
    /// with status 200, the status of that fault.
    status: u16,
    /// The gRPC status of the response, where it has one, also where a caller of gRPC-Web, Connect or JSON got it in that
    /// form.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u32>,
    /// The method of a gRPC call that was made for a caller of JSON: `package.Service/Method`.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_method: Option<&'a str>,
    /// The code of the fault, where the gateway itself ended the request or its response broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    /// The reason of the fault that only operators are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    /// How a response ended that did not complete: `client-gone`, or `cut` where its body failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
    /// Bytes of the request body that arrived.
    bytes_in: u64,
    /// Bytes of the response body that were sent.
    bytes_out: u64,
    /// Milliseconds from the complete request head to the end of the response.
    duration_ms: f64,
    /// The upstream that responded, or else the one that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    /// The address of the endpoint that responded, or else of the one that was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    /// How often the request was sent upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// Why there was more than one attempt, in order: a fault code, `unhealthy`, `status-N`, `grpc-status-N`, `hedge-won`,
    /// `hedge-lost` or `budget-exhausted`, and the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retries: Vec<String>,
    /// Milliseconds from the first byte sent upstream to the response head, of the last attempt; where there was no response, to
    /// the end of that attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    /// What the cache of the route did: `hit`, `stale`, `revalidated`, `collapsed`, `miss` or `bypass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
    /// What the filter `fault` did to the request on purpose: `delay`, `abort` or both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    injected: Vec<&'static str>,
    /// The address of the client, as trusted proxies report it.
    client: IpAddr,
    /// The peer of the connection, where that is not the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    /// Who is calling, as authentication found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    /// The SPIFFE id of the calling service, from its verified certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<&'a str>,
    /// Why the route's `allow` or `deny` would have refused the caller, were it not a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_refusal: Option<&'static str>,
    /// The header `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
    /// The request id, as in the header `X-Request-Id`.
    request_id: &'a str,
    /// The trace the request belongs to, whether or not this gateway exports spans of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// The plugin calls in their order; one element for all chunks of a body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<CallFields<'a>>,
    /// The request headers that the filter `access-log` asks for, by name, each with all its values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, Vec<Cow<'a, str>>>,
}

/// The fields of a plugin call.
#[derive(Serialize, JsonSchema)]
struct CallFields<'a> {
    /// The name of the binding.
    binding: &'a str,
    /// The phase: `authentication`, `rate-limiting`, `routing`, `request`, `request-body`, `response` or `response-body`.
    phase: &'static str,
    /// Microseconds the call took; of a body, all its calls.
    us: u64,
    /// Why the call gave no result: a kind of the metric `witgate_plugin_failures_total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
}

impl<'a> Fields<'a> {
    fn of(entry: &'a LogEntry) -> Self {
        let head = &*entry.head;
        let received = head.received_target().path();
        let upstream = head.upstream_target.as_ref().map(PathAndQuery::path);
        let query = head.received_target().query().filter(|_| entry.access_log.query);
        Fields {
            time: timestamp::rfc3339(entry.ended),
            listener: &entry.listener,
            route: head.route.as_deref().unwrap_or(NONE),
            method: head.method.as_str(),
            scheme: head.scheme.as_str(),
            host: &head.authority,
            path: received,
            path_normalised: Some(head.path()).filter(|path| *path != received),
            path_upstream: upstream.filter(|path| *path != head.path()),
            query,
            protocol: protocol(entry.version),
            status: entry.status.as_u16(),
            grpc_method: entry
                .grpc_method
                .as_deref()
                .filter(|method| entry.head.path().strip_prefix('/') != Some(*method)),
            grpc_status: entry.grpc_status.map(|code| code.number().into()),
            fault: entry.fault.as_ref().map(|(kind, _)| kind.describe().code),
            cause: entry.fault.as_ref().and_then(|(_, cause)| cause.as_deref()),
            ended: match entry.end {
                End::Complete => None,
                End::ClientGone => Some("client-gone"),
                End::Cut => Some("cut"),
            },
            bytes_in: entry.received,
            bytes_out: entry.sent,
            duration_ms: milliseconds(entry.time),
            upstream: entry.upstream_name(),
            endpoint: entry.endpoint.as_ref().map(|(_, endpoint)| &**endpoint),
            attempts: Some(entry.attempts).filter(|attempts| *attempts > 0),
            retries: entry.repeats.iter().map(Repeat::to_string).collect(),
            upstream_ms: entry.upstream_time.map(milliseconds),
            cache: entry.cache.map(CacheResult::name),
            injected: entry.injected.names().collect(),
            client: head.client.address,
            peer: Some(head.client.peer.ip()).filter(|peer| *peer != head.client.address),
            subject: head.identity.as_ref().map(|identity| identity.subject.as_str()),
            spiffe_id: head.client.certificate.as_ref().and_then(|shown| shown.spiffe_id.as_deref()),
            dry_run_refusal: entry.dry_run_refusal,
            user_agent: head.headers.get(USER_AGENT).map(text),
            request_id: &head.request_id,
            trace_id: head.trace_id(),
            plugins: entry.plugins.iter().map(CallFields::of).collect(),
            headers: by_name(&entry.access_log.headers),
        }
    }
}

impl<'a> CallFields<'a> {
    fn of(call: &'a PluginCall) -> Self {
        let us = u64::try_from(call.time.as_micros()).unwrap_or(u64::MAX);
        let failure = call.failure.map(CallFailure::as_str);
        CallFields { binding: &call.binding, phase: call.phase, us, failure }
    }
}

/// Headers with the list of their values, since a header may be repeated.
fn by_name<'a>(headers: &'a [(HeaderName, HeaderValue)]) -> BTreeMap<&'a str, Vec<Cow<'a, str>>> {
    let mut named: BTreeMap<&str, Vec<Cow<'_, str>>> = BTreeMap::new();
    for (name, value) in headers {
        named.entry(name.as_str()).or_default().push(text(value));
    }
    named
}

/// A header value as text: values are bytes, but JSON is text.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// Milliseconds, rounded to three decimals.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
