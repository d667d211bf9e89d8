//! The record of one session: a connection that is forwarded as it is, or that ends before its first request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;
use witgate_exchange::fault::{Fault, FaultKind};

use crate::CoreTelemetry;
use crate::access::milliseconds;
use crate::metrics::{Counter, Gauge, NONE, OTHERS};
use crate::timestamp;

/// Upper bounds of the buckets of durations, in seconds.
const BOUNDS: [f64; 8] = [0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0];

/// The counts of the sessions of one listener, route and upstream.
#[derive(Debug, Default)]
pub(crate) struct SessionSeries {
    pub(crate) open: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    microseconds: Counter,
    buckets: [Counter; BOUNDS.len() + 1],
}

impl SessionSeries {
    fn count(&self, entry: &SessionEntry) {
        self.received.add(entry.received);
        self.sent.add(entry.sent);
        self.microseconds.add(u64::try_from(entry.time.as_micros()).unwrap_or(u64::MAX));
        let seconds = entry.time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].increment();
    }

    /// The sum in seconds, the number of ended sessions, and the number of each bucket by its upper bound.
    pub(crate) fn durations(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets.iter().map(Counter::get)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.microseconds.get() as f64 / 1e6, count, buckets)
    }
}

/// Joins the three names by a character that none of them contains.
pub(crate) fn key(listener: &str, route: &str, upstream: &str) -> String {
    format!("{listener}\0{route}\0{upstream}")
}

/// The labels of a joined key. The key of all others has no separators.
pub(crate) fn labels(key: &str) -> [(&'static str, &str); 3] {
    let mut names = key.split('\0');
    let mut name = || names.next().unwrap_or(OTHERS);
    [("listener", name()), ("route", name()), ("upstream", name())]
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// Both sides have closed it.
    Closed,
    /// The client has reset it or is gone.
    ClientReset,
    /// The upstream has reset it.
    UpstreamReset,
    /// Nothing was transferred for the upstream's `idle_timeout`.
    Idle,
    /// It was open for the route's `timeout`.
    TimedOut,
    /// The gateway ended it before it was forwarded, or in a drain; the fault says why.
    Fault,
}

impl SessionEnd {
    fn as_str(self) -> &'static str {
        match self {
            SessionEnd::Closed => "closed",
            SessionEnd::ClientReset => "client-reset",
            SessionEnd::UpstreamReset => "upstream-reset",
            SessionEnd::Idle => "idle",
            SessionEnd::TimedOut => "timed-out",
            SessionEnd::Fault => "fault",
        }
    }
}

/// What is known of a session.
#[derive(Debug, Clone)]
pub struct SessionEntry {
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Name of the route, if one was found.
    pub route: Option<Arc<str>>,
    /// Name of the upstream.
    pub upstream: Option<Arc<str>>,
    /// The endpoint that was asked last.
    pub endpoint: Option<Arc<str>>,
    /// How many endpoints were asked.
    pub attempts: u32,
    /// How long the endpoint took to accept the connection.
    pub connect: Option<Duration>,
    /// The client, as the PROXY protocol reports it.
    pub client: SocketAddr,
    /// The peer of the connection.
    pub peer: SocketAddr,
    /// Whether TLS ended at the gateway.
    pub terminated: bool,
    /// The server name of TLS.
    pub sni: Option<Box<str>>,
    /// Bytes that the client sent.
    pub received: u64,
    /// Bytes that were sent to the client.
    pub sent: u64,
    /// How it ended.
    pub end: SessionEnd,
    /// Why the gateway ended it, and the cause for the log.
    pub fault: Option<(FaultKind, Option<String>)>,
    time: Duration,
    ended: SystemTime,
}

/// Writes metrics and the line of the access log when it is dropped.
pub struct SessionGuard {
    /// What is known so far.
    pub entry: Box<SessionEntry>,
    telemetry: CoreTelemetry,
    series: Option<Arc<SessionSeries>>,
    begun: Instant,
}

impl SessionGuard {
    /// A connection that was accepted just now.
    pub fn new(telemetry: &CoreTelemetry, listener: &Arc<str>, peer: SocketAddr) -> Self {
        let entry = SessionEntry {
            listener: Arc::clone(listener),
            route: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            connect: None,
            client: peer,
            peer,
            terminated: false,
            sni: None,
            received: 0,
            sent: 0,
            end: SessionEnd::Fault,
            fault: None,
            time: Duration::ZERO,
            ended: SystemTime::UNIX_EPOCH,
        };
        SessionGuard {
            entry: Box::new(entry),
            telemetry: CoreTelemetry::clone(telemetry),
            series: None,
            begun: Instant::now(),
        }
    }

    /// The route and the upstream are chosen: the session is counted as open.
    pub fn routed(&mut self, route: &Arc<str>, upstream: &Arc<str>) {
        let series = self.telemetry.metrics().sessions_of(&self.entry.listener, route, upstream);
        series.open.add(1);
        self.series = Some(series);
        self.entry.route = Some(Arc::clone(route));
        self.entry.upstream = Some(Arc::clone(upstream));
    }

    /// The gateway ends the session.
    pub fn fault(&mut self, fault: Fault) {
        self.entry.end = SessionEnd::Fault;
        self.entry.fault = Some((fault.kind, fault.cause.map(std::borrow::Cow::into_owned)));
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let metrics = self.telemetry.metrics();
        self.entry.time = self.begun.elapsed();
        if let Some((kind, _)) = &self.entry.fault {
            metrics.fault(*kind);
        }
        match &self.series {
            Some(series) => {
                series.open.add(-1);
                series.count(&self.entry);
            }
            None => metrics.sessions_of(&self.entry.listener, NONE, NONE).count(&self.entry),
        }
        if self.telemetry.wants_lines() {
            self.entry.ended = SystemTime::now();
            self.telemetry.tell_session(self.entry.clone());
        }
    }
}

/// The fields of a line of the access log, in order. Fields that do not apply are left out.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SessionFields<'a> {
    /// When the connection ended: UTC with microseconds, as in RFC 3339.
    time: String,
    /// The name of the listener.
    listener: &'a str,
    /// The name of the route; `-` if none was found.
    route: &'a str,
    /// `tcp`, or `tls` if the TLS of the client ended at the gateway.
    protocol: &'static str,
    /// The server name (SNI) in lower case, if the client sent one and the gateway looked at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    /// The code of the fault if the gateway ended the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    /// The reason of the fault that only operators are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    /// How it ended: `closed` by both sides, `client-reset`, `upstream-reset`, `idle` (`idle_timeout` of the upstream),
    /// `timed-out` (`timeout` of the route) or `fault`.
    ended: &'static str,
    /// Bytes that the client sent and that were forwarded. Those of TLS that ends here are counted without it.
    bytes_in: u64,
    /// Bytes that were sent to the client.
    bytes_out: u64,
    /// Milliseconds from the accept to the end.
    duration_ms: f64,
    /// The upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    /// The address of the endpoint, or of the one that was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    /// How many endpoints were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// Milliseconds that the endpoint took to accept the connection, with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_ms: Option<f64>,
    /// The address and port of the client, as the PROXY protocol reports them.
    client: SocketAddr,
    /// The peer of the connection, where that is not the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
}

impl<'a> SessionFields<'a> {
    pub(crate) fn of(entry: &'a SessionEntry) -> Self {
        SessionFields {
            time: timestamp::rfc3339(entry.ended),
            listener: &entry.listener,
            route: entry.route.as_deref().unwrap_or(NONE),
            protocol: if entry.terminated { "tls" } else { "tcp" },
            sni: entry.sni.as_deref(),
            fault: entry.fault.as_ref().map(|(kind, _)| kind.describe().code),
            cause: entry.fault.as_ref().and_then(|(_, cause)| cause.as_deref()),
            ended: entry.end.as_str(),
            bytes_in: entry.received,
            bytes_out: entry.sent,
            duration_ms: milliseconds(entry.time),
            upstream: entry.upstream.as_deref(),
            endpoint: entry.endpoint.as_deref(),
            attempts: Some(entry.attempts).filter(|attempts| *attempts > 0),
            connect_ms: entry.connect.map(milliseconds),
            client: entry.client,
            peer: Some(entry.peer).filter(|peer| *peer != entry.client),
        }
    }
}

/// The JSON Schema of a line, which documents each field.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<SessionFields<'static>>().to_value()
}
