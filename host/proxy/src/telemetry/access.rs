//! The access log: what became of one request, as a line of JSON.
//!
//! Query strings and headers are not written unless a route asks for them by the `access-log` filter: they carry
//! credentials and personal data more often than not. The user agent is the one exception.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{StatusCode, Version};
use serde_json::{Map, Value, json};

use crate::fault::FaultKind;
use crate::head::RequestHead;
use crate::pipeline::exchange::Exchange;
use crate::telemetry::queue::Line;
use crate::telemetry::record::{AccessLog, PluginCall, Record, Share};
use crate::telemetry::timestamp;

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every byte was handed to the connection.
    Complete,
    /// The client went away, or the connection ended under it.
    ClientGone,
    /// The body failed half-way and the stream was reset.
    Cut,
}

/// All about one request that is over: shared by the access log and the exporter of spans.
#[derive(Debug)]
pub struct Story {
    /// When the response ended.
    pub ended: SystemTime,
    /// From the complete request head to the end of the response.
    pub time: Duration,
    /// When the request head was complete.
    pub begun: Instant,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The request's head; of one that was refused, as much as could be believed.
    pub head: Arc<RequestHead>,
    /// The version of HTTP the client spoke.
    pub version: Version,
    /// The status the client got, or would have got.
    pub status: StatusCode,
    /// How it ended.
    pub end: End,
    /// Bytes of the request body.
    pub received: u64,
    /// Bytes of the response body.
    pub sent: u64,
    /// The fault that made the response, and what only the log is told.
    pub fault: Option<(FaultKind, Option<String>)>,
    /// The upstream chosen.
    pub upstream: Option<Arc<str>>,
    /// The upstream and endpoint that answered.
    pub endpoint: Option<(Arc<str>, Arc<str>)>,
    /// Times the request was sent.
    pub attempts: u32,
    /// When the last attempt began.
    pub upstream_begun: Option<Instant>,
    /// From the first byte upstream to the response head.
    pub upstream_time: Option<Duration>,
    /// Plugin calls in order.
    pub plugins: Vec<PluginCall>,
    /// What the `access-log` filter decided.
    pub access_log: AccessLog,
}

/// A line of the access log.
pub(super) struct AccessLine(pub(super) Arc<Story>);

impl Line for AccessLine {
    fn render(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, &self.0.line()).expect("a map with string keys");
        out.push(b'\n');
    }
}

impl Story {
    /// A story of which all is known but its end.
    pub(super) fn new(exchange: &Exchange, status: StatusCode, record: Record) -> Self {
        Story {
            ended: SystemTime::UNIX_EPOCH,
            time: Duration::ZERO,
            begun: exchange.begun,
            listener: Arc::clone(&exchange.connection.listener),
            head: Arc::clone(&exchange.head),
            version: exchange.version,
            status,
            end: End::Complete,
            received: 0,
            sent: 0,
            fault: record.fault,
            upstream: exchange.upstream.clone(),
            endpoint: record.endpoint,
            attempts: record.attempts,
            upstream_begun: record.upstream_begun,
            upstream_time: record.upstream_time,
            plugins: Vec::new(),
            access_log: record.access_log,
        }
    }

    /// Whether the access log wants it.
    pub(super) fn is_line(&self) -> bool {
        match self.access_log.share {
            Share::Everything => true,
            Share::Failures => {
                self.fault.is_some() || self.status.is_server_error() || self.end != End::Complete
            }
            Share::Nothing => false,
        }
    }

    /// The line as JSON. Absent facts are absent keys.
    fn line(&self) -> Value {
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
        put("time", timestamp::rfc3339(self.ended).into());
        put("listener", (&*self.listener).into());
        put("status", self.status.as_u16().into());
        put("duration_ms", milliseconds(self.time));
        put("bytes_in", self.received.into());
        put("bytes_out", self.sent.into());
        match self.end {
            End::Complete => {}
            End::ClientGone => put("ended", "client-gone".into()),
            End::Cut => put("ended", "cut".into()),
        }
        if let Some((kind, cause)) = &self.fault {
            put("fault", kind.describe().code.into());
            if let Some(cause) = cause {
                put("cause", cause.as_str().into());
            }
        }
        if let Some(upstream) = self.upstream_name() {
            put("upstream", upstream.into());
        }
        if let Some((_, endpoint)) = &self.endpoint {
            put("endpoint", (&**endpoint).into());
        }
        if self.attempts > 0 {
            put("attempts", self.attempts.into());
        }
        if let Some(time) = self.upstream_time {
            put("upstream_ms", milliseconds(time));
        }
        if !self.plugins.is_empty() {
            put("plugins", self.plugins.iter().map(call).collect());
        }
        self.request(&mut line);
        Value::Object(line)
    }

    /// The upstream that answered, or else the one that was chosen.
    pub(super) fn upstream_name(&self) -> Option<&str> {
        self.endpoint.as_ref().map(|(upstream, _)| upstream).or(self.upstream.as_ref()).map(|name| &**name)
    }

    /// What is written about the request and its client.
    fn request(&self, line: &mut Map<String, Value>) {
        let head = &self.head;
        let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
        let path = head.received_target.path();
        put("method", head.method.as_str().into());
        put("host", (&*head.authority).into());
        put("path", path.into());
        if head.path() != path {
            put("path_normalised", head.path().into());
        }
        if let Some(target) = &head.upstream_target
            && target.path() != head.path()
        {
            put("path_upstream", target.path().into());
        }
        if self.access_log.query
            && let Some(query) = head.received_target.query()
        {
            put("query", query.into());
        }
        put("protocol", format!("{:?}", self.version).into());
        put("scheme", head.scheme.as_str().into());
        put("route", if head.route.is_empty() { "-" } else { &*head.route }.into());
        put("client", head.client.address.to_string().into());
        if head.client.peer.ip() != head.client.address {
            put("peer", head.client.peer.ip().to_string().into());
        }
        put("request_id", (&*head.request_id).into());
        put("trace_id", head.trace.trace_id_text().into());
        if let Some(identity) = &head.identity {
            put("subject", identity.subject.as_str().into());
        }
        if let Some(agent) = head.headers.get(http::header::USER_AGENT) {
            put("user_agent", String::from_utf8_lossy(agent.as_bytes()).into());
        }
        if !self.access_log.headers.is_empty() {
            let headers = self.access_log.headers.iter();
            let text = |value: &http::HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
            put("headers", headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect());
        }
    }
}

fn call(call: &PluginCall) -> Value {
    let mut value =
        json!({ "binding": &*call.binding, "phase": call.phase, "us": call.time.as_micros() as u64 });
    if let Some(failure) = call.failure {
        value["failure"] = failure.as_str().into();
    }
    value
}

/// Milliseconds with three digits behind the point.
fn milliseconds(time: Duration) -> Value {
    (time.as_micros() as f64 / 1000.0).into()
}
