//! Sends spans by OTLP over HTTP, through a configured upstream, on a thread of its own.
//!
//! The thread is like a core without listeners: it has a runtime and pooled connections. No request ever waits for
//! it.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use prost::Message;
use tokio::sync::mpsc;
use witgate_config::model::Otlp;
use witgate_exchange::log_entry::LogEntry;
use witgate_exchange::trace::SpanSink;

use crate::client_span::ClientNotes;
use crate::in_service::Current;
use crate::metrics::Counter;
use crate::span;

/// The most requests and attempts whose spans may be queued.
const QUEUE: usize = 8192;
/// The most requests and attempts of one batch.
const BATCH: usize = 1024;
/// How long a batch waits for more.
const GATHER: Duration = Duration::from_secs(1);
/// How long one attempt to send may take (the default of the OTLP exporter specification).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before further attempts. Requests that end meanwhile wait in the queue, or are dropped and counted.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// The most bytes of a response that are read. Its content is not used.
const RESPONSE_BYTES: usize = 64 * 1024;

/// Counts of spans by result, over the life of the process.
#[derive(Debug, Default)]
pub(super) struct SpanCounters {
    pub(super) sent: Counter,
    pub(super) dropped: Counter,
    pub(super) failed: Counter,
}

/// What spans are made from.
#[derive(Debug)]
pub(super) enum FinishedSpan {
    /// A finished request, with its plugin calls.
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

impl SpanSink for Exporter {}

impl Exporter {
    /// The exporter behind the sink of a trace.
    pub(super) fn of(sink: &dyn SpanSink) -> Option<&Exporter> {
        let sink: &dyn Any = sink;
        sink.downcast_ref()
    }

    /// Starts the exporter's thread. The upstream is looked up in the newest snapshot for each batch.
    ///
    /// # Errors
    /// The system refuses a thread or a runtime.
    pub(super) fn start(
        otlp: Otlp,
        in_service: Arc<Current>,
        counters: Arc<SpanCounters>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let done = Arc::new(AtomicU64::new(0));
        let courier = Courier {
            otlp: otlp.clone(),
            in_service,
            counters: Arc::clone(&counters),
            done: Arc::clone(&done),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("witgate-spans".into()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, courier.run(receiver));
        })?;
        Ok(Exporter { sender, otlp, counters, queued: AtomicU64::new(0), done })
    }

    /// Whether this exporter has the configured settings. The sampling probability is not part of them.
    pub(super) fn serves(&self, otlp: &Otlp) -> bool {
        let key = |otlp: &Otlp| (otlp.upstream.clone(), otlp.path.clone(), otlp.service_name.clone());
        key(&self.otlp) == key(otlp)
    }

    /// Queues a finished request. Never waits: if the queue is full, its spans are dropped and counted.
    pub(super) fn push_request(&self, entry: Arc<LogEntry>) {
        self.push(FinishedSpan::Request(entry));
    }

    /// As [`Exporter::push_request`], for one sending of a request to an endpoint.
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

    /// Whether everything queued so far was sent or given up.
    pub(super) fn is_idle(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.queued.load(Ordering::Relaxed)
    }
}

/// The thread's side of the queue.
struct Courier {
    otlp: Otlp,
    in_service: Arc<Current>,
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
            // Either the batch is full or the time is up; in both cases it is sent.
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
        let Some(in_service) = self.in_service.get() else { return Sent::NotNow };
        let request =
            Request::post(&self.otlp.path).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let Ok(request) = request else { return Sent::Refused };
        let response =
            in_service.fetch(&self.otlp.upstream, request, None, Some(TIMEOUT), RESPONSE_BYTES).await;
        match response.map(|response| response.status()) {
            Ok(status) if status.is_success() => Sent::Taken,
            // The statuses after which the OTLP specification asks for a retry.
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

/// The result of one attempt to send a batch.
enum Sent {
    Taken,
    NotNow,
    Refused,
}
