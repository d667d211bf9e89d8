//! Metrics, access log and traces. They are written after the last byte of a response, and no request waits for
//! them.
//!
//! A connection that is forwarded as it is has a [`session::SessionGuard`] instead.
//!
//! While a request is served, its exchange fills a [`Record`](witgate_exchange::record::Record). When the request ends
//! ([`request_guard::RequestGuard`]), its core counts it in cells of its own ([`metrics`]) and passes the entry to
//! the writer of the access log ([`access`]) and to the exporter of spans ([`export`]). Both have a bounded queue
//! and a thread of their own, which does the formatting. Entries that find a queue full are dropped and counted.

pub mod access;
pub mod client_span;
pub mod collect;
mod export;
pub mod exposition;
mod grpc_series;
mod in_service;
mod log;
pub mod metrics;
pub mod names_in_service;
pub mod queue;
pub mod request_guard;
pub mod route_series;
pub mod session;
mod span;
pub mod timestamp;

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use witgate_config::model::{LogLevel, LogTarget, Otlp};

use access::AccessLine;
use export::{Exporter, SpanCounters};
use in_service::Current;
pub use in_service::InService;
use log::LogLine;
use metrics::{Counter, Metrics};
use queue::LineQueue;
use witgate_exchange::log_entry::LogEntry;
use witgate_exchange::trace::TraceContext;

/// The most lines of the gateway's own log that may wait to be written.
const LOG_QUEUE: usize = 4096;

/// Counts and logs everything. There is one for the life of the process, carried over every reload.
pub struct Telemetry {
    metrics: Metrics,
    in_service: Arc<Current>,
    access: ArcSwapOption<LineQueue<AccessLine>>,
    /// Whether there is an access log; an atomic, because it is read for every request.
    wants_lines: AtomicBool,
    access_dropped: Counter,
    exporter: ArcSwapOption<Exporter>,
    spans: Arc<SpanCounters>,
    log: Option<LineQueue<LogLine>>,
    log_level: AtomicU8,
    log_plain: bool,
    log_dropped: Counter,
}

/// A core's own handle on the telemetry. Every request clones it: clones of the `Arc` itself would be counted in one place
/// that all cores write to.
pub type CoreTelemetry = Rc<Arc<Telemetry>>;

impl fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Telemetry before any configuration: the gateway's own log goes to standard error from level info; no access
    /// log, no spans.
    pub fn new() -> Arc<Self> {
        let telemetry = Arc::new(Telemetry {
            metrics: Metrics::default(),
            in_service: Arc::default(),
            access: ArcSwapOption::empty(),
            wants_lines: AtomicBool::new(false),
            access_dropped: Counter::default(),
            exporter: ArcSwapOption::empty(),
            spans: Arc::default(),
            log: LineQueue::start("witgate-log", LogTarget::Stderr, LOG_QUEUE).ok(),
            log_level: AtomicU8::new(LogLevel::Info as u8),
            log_plain: std::io::stderr().is_terminal(),
            log_dropped: Counter::default(),
        });
        collect::register(&telemetry);
        telemetry
    }

    /// Applies a snapshot that was put in service: log targets (a file is reopened), log level, exporter. Called
    /// by the control plane, at the start and after every swap.
    ///
    /// A log that cannot be opened leaves the previous one in place and is reported in the gateway's own log:
    /// serving requests matters more than the access log.
    pub fn follow(&self, snapshot: Arc<impl InService>) {
        let config = snapshot.settings();
        self.log_level.store(config.log_level as u8, Ordering::Relaxed);
        self.follow_access_log(config.access_log.as_ref(), config.access_log_queue);
        self.follow_exporter(config.otlp.as_ref());
        self.wants_lines.store(self.access.load().is_some(), Ordering::Relaxed);
        for warning in snapshot.warnings() {
            self.log(LogLevel::Warn, warning, &[]);
        }
        self.in_service.set(snapshot);
    }

    fn follow_access_log(&self, target: Option<&LogTarget>, capacity: usize) {
        let Some(target) = target else { return self.access.store(None) };
        if let Some(queue) = &*self.access.load()
            && queue.serves(target, capacity)
        {
            return queue.reopen();
        }
        match LineQueue::start("witgate-access", target.clone(), capacity) {
            Ok(queue) => self.access.store(Some(Arc::new(queue))),
            Err(error) => {
                self.log(LogLevel::Error, "the access log cannot be opened", &[("error", &error)]);
            }
        }
    }

    fn follow_exporter(&self, otlp: Option<&Otlp>) {
        let Some(otlp) = otlp else { return self.exporter.store(None) };
        if self.exporter.load().as_ref().is_some_and(|exporter| exporter.serves(otlp)) {
            return;
        }
        match Exporter::start(otlp.clone(), Arc::clone(&self.in_service), Arc::clone(&self.spans)) {
            Ok(exporter) => self.exporter.store(Some(Arc::new(exporter))),
            Err(error) => self.log(LogLevel::Error, "spans cannot be exported", &[("error", &error)]),
        }
    }

    /// Writes a line to the gateway's own log. Never waits: if the queue is full, the line is dropped and counted.
    pub fn log(
        &self,
        level: LogLevel,
        message: impl Into<Cow<'static, str>>,
        fields: &[(&'static str, &dyn Display)],
    ) {
        let Some(queue) = &self.log else { return };
        if (level as u8) < self.log_level.load(Ordering::Relaxed) {
            return;
        }
        let fields = fields.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let line = LogLine {
            time: SystemTime::now(),
            level,
            message: message.into(),
            fields,
            plain: self.log_plain,
        };
        if !queue.push(line) {
            self.log_dropped.increment();
        }
    }

    /// Whether the gateway's own log has lines of this level.
    pub fn logs(&self, level: LogLevel) -> bool {
        level as u8 >= self.log_level.load(Ordering::Relaxed)
    }

    /// What is in service; `None` before the first snapshot.
    fn in_service(&self) -> Option<Arc<dyn InService>> {
        self.in_service.get()
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Blocks until logs are written and spans are sent; only for the end of the process. False: the time ran out.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.is_idle() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        true
    }

    fn is_idle(&self) -> bool {
        self.access.load().as_ref().is_none_or(|queue| queue.is_idle())
            && self.log.as_ref().is_none_or(LineQueue::is_idle)
            && self.exporter.load().as_ref().is_none_or(|exporter| exporter.is_idle())
    }

    /// Whether there is an access log.
    pub(crate) fn wants_lines(&self) -> bool {
        self.wants_lines.load(Ordering::Relaxed)
    }

    /// The trace of a request with these headers, if spans are exported; `otlp` is the setting of the request's
    /// snapshot. The spans go to the exporter of this moment, even if it is replaced before they end.
    pub fn trace(&self, headers: &HeaderMap, otlp: Option<&Otlp>) -> Option<TraceContext> {
        let otlp = otlp?;
        let exporter = self.exporter.load();
        let exporter = exporter.as_ref()?;
        Some(TraceContext::from_headers(headers, otlp.sample).exported_by(exporter))
    }

    /// Passes the entry of a session to the access log.
    pub(crate) fn tell_session(&self, entry: Box<session::SessionEntry>) {
        if let Some(queue) = &*self.access.load()
            && !queue.push(AccessLine::Session(entry))
        {
            self.access_dropped.increment();
        }
    }

    /// Passes an entry to the access log and the exporter.
    pub(crate) fn tell(&self, entry: Arc<LogEntry>) {
        let sink = entry.head.trace.as_ref().and_then(TraceContext::exporter);
        if let Some(exporter) = sink.and_then(|sink| Exporter::of(&**sink)) {
            exporter.push_request(Arc::clone(&entry));
        }
        if entry.is_line()
            && let Some(queue) = &*self.access.load()
            && !queue.push(AccessLine::Request(entry))
        {
            self.access_dropped.increment();
        }
    }
}
