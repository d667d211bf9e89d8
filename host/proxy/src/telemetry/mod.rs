//! Metrics, access log, traces: written after the last byte, never waited for.
//!
//! A request takes its notes with it ([`record::Record`]). When it is over ([`ending::Ending`]) its core counts it in
//! cells of its own ([`metrics`]), and hands the notes themselves to whoever wants them: the writer of the access log
//! ([`access`]) and the exporter of spans. Both have a bounded queue and a thread of their own; formatting happens
//! there. A full queue drops, and counts what it drops.

pub mod access;
pub mod collect;
pub mod ending;
mod log;
pub mod metrics;
pub mod per_core;
pub mod queue;
pub mod record;
pub mod timestamp;
pub mod trace;

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use witgate_config::model::{LogLevel, LogTarget};

use crate::snapshot::Snapshot;
use access::{AccessLine, Story};
use log::LogLine;
use metrics::{Counter, Metrics};
use queue::LineQueue;

/// Lines of the gateway's own log that may wait to be written.
const LOG_QUEUE: usize = 4096;

/// Where everything is counted and logged; one for the life of the process, carried over every reload.
pub struct Telemetry {
    metrics: Metrics,
    snapshot: ArcSwapOption<Snapshot>,
    access: ArcSwapOption<LineQueue<AccessLine>>,
    access_dropped: Counter,
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
            snapshot: ArcSwapOption::empty(),
            access: ArcSwapOption::empty(),
            access_dropped: Counter::default(),
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

    /// The numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until logs are written; for the end of the process only. False: time ran out.
    pub fn flush(&self, timeout: Duration) -> bool {
        let access = self.access.load().as_ref().is_none_or(|queue| queue.flush(timeout));
        let log = self.log.as_ref().is_none_or(|queue| queue.flush(timeout));
        access && log
    }

    /// Whether there is an access log.
    pub(crate) fn wants_lines(&self) -> bool {
        self.access.load().is_some()
    }

    /// Whether spans are exported.
    pub(crate) fn wants_spans(&self) -> bool {
        false
    }

    /// Hands the notes about a request to whoever wants them.
    pub(crate) fn tell(&self, story: Arc<Story>) {
        if story.is_line()
            && let Some(queue) = &*self.access.load()
            && !queue.push(AccessLine(story))
        {
            self.access_dropped.increment();
        }
    }
}
