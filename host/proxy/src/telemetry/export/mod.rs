//! Sends spans by OTLP over HTTP, through a named upstream, from a thread of its own.
//!
//! The thread is like a core without listeners: a runtime, and pooled connections, that no request waits for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use prost::Message;
use tokio::sync::mpsc;
use witgate_config::model::Otlp;

use crate::contracts::Fetch as _;
use crate::snapshot::Snapshot;
use crate::telemetry::access::LogEntry;
use crate::telemetry::client_span::ClientNotes;
use crate::telemetry::metrics::Counter;
use crate::telemetry::span;

/// Requests, and attempts to send them, whose spans may wait.
const QUEUE: usize = 8192;
/// Most requests and attempts of one batch.
const BATCH: usize = 1024;
/// How long a batch waits for more.
const GATHER: Duration = Duration::from_secs(1);
/// How long one attempt to send may take (the default of the OTLP exporter specification).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before further attempts. Requests that end meanwhile wait in the queue, or are dropped and counted.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Bytes of an answer that are read. Nothing in it is needed.
const ANSWER_BYTES: usize = 64 * 1024;

/// What became of spans, over the life of the process.
#[derive(Debug, Default)]
pub(super) struct SpanCounters {
    pub(super) sent: Counter,
    pub(super) dropped: Counter,
    pub(super) failed: Counter,
}

/// What spans are made of.
#[derive(Debug)]
pub(super) enum FinishedSpan {
    /// A request that is over, with its plugin calls.
    Request(Arc<LogEntry>),
    /// One sending of a request to an endpoint.
    Client(Box<ClientNotes>),
}

/// The queue of an exporter. Dropping it ends the exporter once the queue is empty.
#[derive(Debug)]
pub(super) struct Exporter {
    sender: mpsc::Sender<FinishedSpan>,
    otlp: Otlp,
    counters: Arc<SpanCounters>,
    queued: AtomicU64,
    done: Arc<AtomicU64>,
}

impl Exporter {
    /// Starts the exporter's thread. The upstream is looked up in the newest snapshot, batch by batch.
    ///
    /// # Errors
    /// There is no thread or no runtime to be had.
    pub(super) fn start(
        otlp: Otlp,
        snapshot: Arc<ArcSwapOption<Snapshot>>,
        counters: Arc<SpanCounters>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let done = Arc::new(AtomicU64::new(0));
        let courier = Courier {
            otlp: otlp.clone(),
            snapshot,
            counters: Arc::clone(&counters),
            done: Arc::clone(&done),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("witgate-spans".into()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, courier.run(receiver));
        })?;
        Ok(Exporter { sender, otlp, counters, queued: AtomicU64::new(0), done })
    }

    /// Whether this exporter is what the configuration asks for. The share of sampled traces is not its business.
    pub(super) fn serves(&self, otlp: &Otlp) -> bool {
        let key = |otlp: &Otlp| (otlp.upstream.clone(), otlp.path.clone(), otlp.service_name.clone());
        key(&self.otlp) == key(otlp)
    }

    /// Takes the notes of a request that is over. Never waits: a full queue drops them and counts their spans.
    pub(super) fn push_request(&self, entry: Arc<LogEntry>) {
        self.push(FinishedSpan::Request(entry));
    }

    /// The same of a request that was sent to an endpoint.
    pub(super) fn push_client(&self, notes: Box<ClientNotes>) {
        self.push(FinishedSpan::Client(notes));
    }

    fn push(&self, told: FinishedSpan) {
        self.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.sender.try_send(told) {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            self.counters.dropped.add(span::count(&error.into_inner()));
        }
    }

    /// Whether all that was queued so far has been sent or given up.
    pub(super) fn is_idle(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.queued.load(Ordering::Relaxed)
    }
}

/// The sending end.
struct Courier {
    otlp: Otlp,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    counters: Arc<SpanCounters>,
    done: Arc<AtomicU64>,
}

impl Courier {
    async fn run(self, mut queue: mpsc::Receiver<FinishedSpan>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = queue.recv().await {
            batch.push(first);
            let more = async {
                while batch.len() < BATCH
                    && let Some(told) = queue.recv().await
                {
                    batch.push(told);
                }
            };
            // Whether the batch is full or time is up: what is there is sent.
            let _ = tokio::time::timeout(GATHER, more).await;
            self.deliver(&batch).await;
            self.done.fetch_add(batch.len() as u64, Ordering::Release);
            batch.clear();
        }
    }

    async fn deliver(&self, told: &[FinishedSpan]) {
        let batch = span::batch(&self.otlp.service_name, told);
        let body = Bytes::from(batch.encode_to_vec());
        let spans = told.iter().map(span::count).sum();
        let mut pauses = PAUSES.iter();
        loop {
            match self.send(body.clone()).await {
                Sent::Taken => return self.counters.sent.add(spans),
                Sent::Refused => return self.counters.failed.add(spans),
                Sent::NotNow => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return self.counters.failed.add(spans),
                },
            }
        }
    }

    async fn send(&self, body: Bytes) -> Sent {
        let Some(snapshot) = self.snapshot.load_full() else { return Sent::NotNow };
        let request =
            Request::post(&self.otlp.path).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let Ok(request) = request else { return Sent::Refused };
        let answer = snapshot.fetch(&self.otlp.upstream, request, None, Some(TIMEOUT), ANSWER_BYTES).await;
        match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Sent::Taken,
            // The answers after which the OTLP specification asks to try again.
            Ok(
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT,
            )
            | Err(_) => Sent::NotNow,
            Ok(_) => Sent::Refused,
        }
    }
}

/// What became of one attempt.
enum Sent {
    Taken,
    NotNow,
    Refused,
}

#[cfg(test)]
mod tests;
