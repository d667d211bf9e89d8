//! Metrics, access log, traces: written after the last byte, never waited for.
//!
//! A request takes its notes with it ([`record::Record`]). When it is over ([`request_guard::RequestGuard`]) its core counts it in
//! cells of its own ([`metrics`]), and hands the notes themselves to whoever wants them: the writer of the access log
//! ([`access`]) and the exporter of spans ([`export`]). Both have a bounded queue and a thread of their own; formatting happens
//! there. A full queue drops, and counts what it drops.

pub mod access;
pub(crate) mod client_span;
pub mod collect;
mod export;
mod log;
pub mod metrics;
pub mod per_core;
pub mod queue;
pub mod record;
pub mod request_guard;
pub mod route_name;
mod span;
pub mod timestamp;
pub mod trace;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use witgate_config::model::{LogLevel, LogTarget, Otlp};

use crate::contracts::Quarantined;
use crate::snapshot::Snapshot;
use crate::upstream::{self, UpstreamStatus};
use access::{AccessLine, LogEntry};
use export::{Exporter, SpanCounters};
use log::LogLine;
use metrics::{Counter, Metrics};
use queue::LineQueue;
use trace::TraceContext;

/// Lines of the gateway's own log that may wait to be written.
const LOG_QUEUE: usize = 4096;

/// Where everything is counted and logged; one for the life of the process, carried over every reload.
pub struct Telemetry {
    metrics: Metrics,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    access: ArcSwapOption<LineQueue<AccessLine>>,
    /// Whether there is an access log: asked once a request, so in the cheapest way.
    wants_lines: AtomicBool,
    access_dropped: Counter,
    exporter: ArcSwapOption<Exporter>,
    spans: Arc<SpanCounters>,
    log: Option<LineQueue<LogLine>>,
    log_level: AtomicU8,
    log_plain: bool,
    log_dropped: Counter,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Telemetry before any configuration: the gateway's own log goes to standard error from level info, there is no
    /// access log and there are no spans.
    pub fn new() -> Arc<Self> {
        let telemetry = Arc::new(Telemetry {
            metrics: Metrics::default(),
            snapshot: Arc::default(),
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

    /// Follows a snapshot that was put in service: log targets (a file is opened again), log level, exporter. Called
    /// by the control plane, at start and after every swap.
    ///
    /// A log that cannot be opened leaves the one before in place and is reported in the gateway's own log: a gateway
    /// that serves is worth more than its access log.
    pub fn follow(&self, snapshot: Arc<Snapshot>) {
        let config = &snapshot.config.telemetry;
        self.log_level.store(config.log_level as u8, Ordering::Relaxed);
        self.follow_access_log(config.access_log.as_ref(), config.access_log_queue);
        self.follow_exporter(config.otlp.as_ref());
        self.wants_lines.store(self.access.load().is_some(), Ordering::Relaxed);
        for warning in snapshot.warnings() {
            self.log(LogLevel::Warn, warning, &[]);
        }
        self.snapshot.store(Some(snapshot));
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
        match Exporter::start(otlp.clone(), Arc::clone(&self.snapshot), Arc::clone(&self.spans)) {
            Ok(exporter) => self.exporter.store(Some(Arc::new(exporter))),
            Err(error) => self.log(LogLevel::Error, "spans cannot be exported", &[("error", &error)]),
        }
    }

    /// Writes a line to the gateway's own log. Never waits; a full queue drops the line and counts it.
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

    /// Whether the gateway's own log takes lines of this level.
    pub fn logs(&self, level: LogLevel) -> bool {
        level as u8 >= self.log_level.load(Ordering::Relaxed)
    }

    /// How the upstreams of the snapshot in service stand.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.snapshot.load().as_ref().map(|snapshot| upstream::status(snapshot)).unwrap_or_default()
    }

    /// The bindings of the snapshot in service that are in quarantine, by name.
    pub fn quarantined(&self) -> BTreeMap<String, Quarantined> {
        let snapshot = self.snapshot.load();
        let plugins = snapshot.iter().flat_map(|snapshot| &snapshot.plugins);
        plugins.filter_map(|(name, plugin)| Some((name.clone(), plugin.quarantine()?))).collect()
    }

    /// The numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until logs are written and spans are sent; for the end of the process only, it blocks. False: time ran
    /// out.
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

    /// The trace of a request with these headers, if spans are exported; `otlp` is what the request's snapshot says about that.
    /// What the trace tells others to be sampled goes to the exporter that there is now, also if it is replaced meanwhile.
    pub(crate) fn trace(&self, headers: &HeaderMap, otlp: Option<&Otlp>) -> Option<TraceContext> {
        let otlp = otlp?;
        let exporter = self.exporter.load();
        let exporter = exporter.as_ref()?;
        Some(TraceContext::from_headers(headers, otlp.sample).exported_by(exporter))
    }

    /// Hands the notes about a request to whoever wants them.
    pub(crate) fn tell(&self, entry: Arc<LogEntry>) {
        if let Some(exporter) = entry.head.trace.as_ref().and_then(TraceContext::exporter) {
            exporter.push_request(Arc::clone(&entry));
        }
        if entry.is_line()
            && let Some(queue) = &*self.access.load()
            && !queue.push(AccessLine(entry))
        {
            self.access_dropped.increment();
        }
    }
}
