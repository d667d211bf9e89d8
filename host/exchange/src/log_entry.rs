//! Everything about one finished request: what the access log, the spans and the bindings that observe are made of.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, StatusCode, Version};

use crate::facts::Facts;
use crate::fault::FaultKind;
use crate::grpc::Code;
use crate::head::RequestHead;
use crate::record::{AccessLog, CacheResult, Injected, PluginCall, Recalled, Record, Repeat, Share};

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every byte was passed to the connection.
    Complete,
    /// The client left, or the connection ended.
    ClientGone,
    /// The body failed before its end, and the stream was reset.
    Cut,
}

/// Everything about one finished request, shared by the access log, the exporter of spans, and the bindings that observe.
#[derive(Debug)]
pub struct LogEntry {
    /// When the response ended.
    pub ended: SystemTime,
    /// From the complete request head to the end of the response.
    pub time: Duration,
    /// When the request head was complete.
    pub begun: Instant,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The head of the request; of a refused request, only what could be trusted.
    pub head: Arc<RequestHead>,
    /// The version of HTTP the client spoke.
    pub version: Version,
    /// The status that the client got, or would have got; of a fault that a gRPC client is told of with status 200,
    /// the status of the fault.
    pub status: StatusCode,
    /// The gRPC status of the response, if it has one or stands for one.
    pub grpc_status: Option<Code>,
    /// The method of a gRPC call (`package.Service/Method`), where that is not the path.
    pub grpc_method: Option<Arc<str>>,
    /// Whether the request is a call of gRPC, whichever protocol its client speaks.
    pub is_call: bool,
    /// How the response ended.
    pub end: End,
    /// Bytes of the request body.
    pub received: u64,
    /// Bytes of the response body.
    pub sent: u64,
    /// The fault that made the response, and its cause for the log.
    pub fault: Option<(FaultKind, Option<String>)>,
    /// The upstream chosen.
    pub upstream: Option<Arc<str>>,
    /// The upstream and endpoint that responded, or else that were asked last.
    pub endpoint: Option<(Arc<str>, Arc<str>)>,
    /// How often the request was sent.
    pub attempts: u32,
    /// From the first byte sent upstream to the response head, or to the end of an attempt that got none; of the last
    /// attempt.
    pub upstream_time: Option<Duration>,
    /// What the cache of the route did.
    pub cache: Option<CacheResult>,
    /// What the filter `fault` did to the request.
    pub injected: Injected,
    /// Why the request was sent more than once, in order.
    pub repeats: Vec<Repeat>,
    /// Why the route's `allow` or `deny` would have refused the caller, were it not a dry run.
    pub dry_run_refusal: Option<&'static str>,
    /// Plugin calls in order.
    pub plugins: Vec<PluginCall>,
    /// Remembered results that were used in place of calls.
    pub recalled: Vec<Recalled>,
    /// The response headers that a binding observes.
    pub response_headers: HeaderMap,
    /// What the `access-log` filter decided.
    pub access_log: AccessLog,
}

impl LogEntry {
    /// An entry that is complete except for how the response ended.
    pub fn new(facts: &Facts, listener: &Arc<str>, status: StatusCode, record: Record) -> Self {
        LogEntry {
            ended: SystemTime::UNIX_EPOCH,
            time: Duration::ZERO,
            begun: facts.begun,
            listener: Arc::clone(listener),
            head: Arc::clone(&facts.head),
            version: facts.version,
            status,
            grpc_status: None,
            grpc_method: None,
            is_call: false,
            end: End::Complete,
            received: 0,
            sent: 0,
            fault: record.fault,
            upstream: facts.upstream.clone(),
            endpoint: record.endpoint,
            attempts: record.attempts,
            upstream_time: record.upstream_time,
            cache: record.cache,
            injected: record.injected,
            repeats: record.repeats,
            dry_run_refusal: record.dry_run_refusal,
            plugins: Vec::new(),
            recalled: record.recalled,
            response_headers: HeaderMap::new(),
            access_log: record.access_log,
        }
    }

    /// Whether the entry is to be written to the access log.
    pub fn is_line(&self) -> bool {
        match self.access_log.share {
            Share::Everything => true,
            Share::Failures => {
                self.fault.is_some()
                    || self.status.is_server_error()
                    || self.grpc_status.is_some_and(|code| code.is_server_error())
                    || self.end != End::Complete
            }
            Share::Nothing => false,
        }
    }

    /// The upstream that responded, or else the one that was chosen.
    pub fn upstream_name(&self) -> Option<&str> {
        self.endpoint.as_ref().map(|(upstream, _)| upstream).or(self.upstream.as_ref()).map(|name| &**name)
    }
}
