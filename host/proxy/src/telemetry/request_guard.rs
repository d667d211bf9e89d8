//! The end of a request: what is written after its last byte, or when its client has left or its body has failed.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use witgate_exchange::arrival::{Completion, Ingress, Outcome};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;
use witgate_exchange::maps;
use witgate_exchange::record::{PluginCalls, Received, Share};
use witgate_exchange::turn;

use crate::telemetry::CoreTelemetry;
use crate::telemetry::access::{End, LogEntry};
use crate::telemetry::metrics::Ended;
use crate::telemetry::route_series::{self, RouteSeries};

/// Dropping it writes metrics, access log line and span, and calls the completion. Without a call of
/// [`RequestGuard::complete`] before, the client has left: that is when futures and bodies are dropped early.
pub struct RequestGuard {
    telemetry: CoreTelemetry,
    ingress: Rc<Ingress>,
    /// Held until the end, so that its header map can be used again.
    head: Arc<RequestHead>,
    /// Where requests of the route are counted; none if no route was found.
    series: Option<Arc<RouteSeries>>,
    upstream: Option<Arc<str>>,
    begun: Instant,
    status: StatusCode,
    end: End,
    received: Option<Received>,
    sent: u64,
    fault: Option<FaultKind>,
    in_flight: bool,
    /// Still written to while a plugin transforms the body.
    plugins: PluginCalls,
    /// `Some` only if a log line or a span is to be written.
    entry: Option<Arc<LogEntry>>,
    completion: Completion,
    /// What the completion is told unless the client goes away first.
    outcome: Outcome,
}

impl RequestGuard {
    /// Takes over the record of a request that came in by this way. Nothing else writes it any more.
    ///
    /// For tunnels, which outlive their exchange; everything else uses
    /// [`Exchange::finish`](crate::pipeline::exchange::Exchange::finish).
    pub fn take(
        facts: &mut Facts,
        series: Option<Arc<RouteSeries>>,
        telemetry: &CoreTelemetry,
        ingress: &Rc<Ingress>,
        status: StatusCode,
    ) -> Self {
        let mut record = std::mem::take(&mut facts.record);
        facts.record.taken = true;
        let wanted = telemetry.wants_lines() && record.access_log.share != Share::Nothing
            || facts.head.trace.as_ref().is_some_and(|trace| trace.sampled);
        let fault = record.fault.as_ref().map(|(kind, _)| *kind);
        RequestGuard {
            telemetry: CoreTelemetry::clone(telemetry),
            ingress: Rc::clone(ingress),
            head: Arc::clone(&facts.head),
            series,
            begun: facts.begun,
            status,
            end: End::ClientGone,
            received: record.received.take(),
            sent: 0,
            fault,
            in_flight: record.in_flight,
            plugins: std::mem::take(&mut record.plugins),
            entry: wanted.then(|| Arc::new(LogEntry::new(facts, &ingress.listener, status, record))),
            completion: std::mem::take(&mut facts.completion),
            outcome: match fault {
                Some(kind) => Outcome::Fault(kind),
                None if facts.discarded => Outcome::Discarded,
                None if facts.local_response => Outcome::Local,
                None => Outcome::Answered,
            },
            // Taken last, because the log entry uses it too.
            upstream: facts.upstream.take(),
        }
    }

    /// Counts bytes sent to the client.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The last byte was sent.
    pub fn complete(&mut self) {
        self.end = End::Complete;
    }

    /// The body or the tunnel failed before its end, with a fault of this kind.
    pub fn cut(&mut self, kind: FaultKind) {
        self.end = End::Cut;
        self.outcome = Outcome::Fault(kind);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.write();
        let outcome = match self.end {
            End::ClientGone => Outcome::Abandoned,
            End::Complete | End::Cut => self.outcome,
        };
        std::mem::take(&mut self.completion).complete(outcome);
    }
}

impl RequestGuard {
    /// Writes what is known to metrics, access log and span.
    fn write(&mut self) {
        let time = turn::now() - self.begun;
        let received = self.received.as_ref().map_or(0, Received::bytes);
        let (metrics, listener) = (self.telemetry.metrics(), &self.ingress.listener);
        let ended = Ended { status: self.status, time, received, sent: self.sent };
        match &self.series {
            Some(series) => {
                series.count(metrics, listener, self.upstream.as_ref(), &ended);
                if self.in_flight {
                    series.in_flight(metrics, listener, -1);
                }
            }
            None => route_series::count_without_route(metrics, listener, self.upstream.as_ref(), &ended),
        }
        if let Some(kind) = self.fault {
            metrics.fault(kind);
        }
        if let Some(head) = Arc::get_mut(&mut self.head) {
            maps::give_back(std::mem::take(&mut head.headers));
        }
        let Some(mut entry) = self.entry.take() else { return };
        if let Some(entry) = Arc::get_mut(&mut entry) {
            entry.ended = SystemTime::now();
            entry.time = time;
            entry.end = self.end;
            entry.received = received;
            entry.sent = self.sent;
            entry.plugins = self.plugins.take();
        }
        self.telemetry.tell(entry);
    }
}

/// The implementation of [`Exchange::finish`](crate::pipeline::exchange::Exchange::finish).
pub(crate) fn finish(
    facts: &mut Facts,
    series: Option<Arc<RouteSeries>>,
    telemetry: &CoreTelemetry,
    ingress: &Rc<Ingress>,
    mut response: Response<Body>,
) -> Response<Body> {
    if facts.record.taken {
        return response;
    }
    let bodiless = facts.head.method == Method::HEAD
        || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.status().is_informational();
    let mut guard = RequestGuard::take(facts, series, telemetry, ingress, response.status());
    match std::mem::take(response.body_mut()) {
        body if bodiless => {
            // The body of such a response is dropped unread, which must not count as a client that left.
            if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
                response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
            }
            guard.complete();
        }
        Body::Empty => guard.complete(),
        body => *response.body_mut() = Body::wrap(RecordedBody { inner: body, guard: Some(guard) }),
    }
    response
}

/// A response body that writes the record at its end.
struct RecordedBody {
    inner: Body,
    guard: Option<RequestGuard>,
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        if let (Poll::Ready(frame), Some(guard)) = (&polled, &mut this.guard) {
            match frame {
                Some(Ok(frame)) => guard.sent(frame.data_ref().map_or(0, |data| data.len() as u64)),
                Some(Err(error)) => guard.cut(kind(error)),
                None => guard.complete(),
            }
            let failed = matches!(frame, Some(Err(_)));
            if failed || frame.is_none() || this.inner.is_end_stream() {
                if !failed {
                    guard.complete();
                }
                this.guard = None;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The kind of fault that broke a response body off.
fn kind(error: &BodyError) -> FaultKind {
    error.downcast_ref::<Fault>().map_or(FaultKind::UpstreamReset, |fault| fault.kind)
}

impl Drop for RecordedBody {
    /// A body without bytes left is complete when it is dropped.
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard
            && self.inner.is_end_stream()
        {
            guard.complete();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::time::Duration;
    use witgate_config::model::LogTarget;
    use witgate_exchange::record::{PluginCall, Received};

    use super::*;
    use crate::pipeline::exchange::Exchange;
    use crate::telemetry::Telemetry;
    use crate::testing;

    /// Telemetry with an access log in a temporary folder, and a way to read its lines.
    struct Log {
        folder: tempfile::TempDir,
        telemetry: Arc<Telemetry>,
    }

    impl Log {
        fn open() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let telemetry = Telemetry::new();
            let mut config = testing::config();
            config.telemetry.access_log = Some(LogTarget::File(folder.path().join("access.log")));
            telemetry.follow(Arc::new(testing::snapshot(config)));
            Log { folder, telemetry }
        }

        fn exchange(&self, method: Method, target: &str) -> Exchange {
            let head =
                testing::head(method, target, &[("user-agent", "test/1"), ("authorization", "Bearer x")]);
            testing::exchange_with(&self.telemetry, testing::snapshot(testing::config()), head)
        }

        fn lines(&self) -> Vec<Value> {
            assert!(self.telemetry.flush(Duration::from_secs(10)));
            let text = std::fs::read_to_string(self.folder.path().join("access.log")).expect("the log");
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        }
    }

    #[test]
    fn the_line_is_written_when_the_last_byte_is_through() {
        let log = Log::open();
        let mut exchange = log.exchange(Method::POST, "/users/7?token=secret");
        exchange.facts.upstream = Some("users".into());
        exchange.facts.record.endpoint = Some(("users".into(), "10.0.0.1:80".into()));
        exchange.facts.record.attempts = 1;
        let received = Received::default();
        received.add(5);
        exchange.facts.record.received = Some(received);
        let call = PluginCall {
            binding: "jwt".into(),
            phase: "authentication",
            begun: Instant::now(),
            time: Duration::from_micros(42),
            failure: None,
        };
        exchange.facts.record.plugins.push(call);
        let body = testing::chunks(vec![Ok(b"hello "), Ok(b"world")]);
        let response = testing::finished(exchange, Response::new(body));
        assert!(response.headers().contains_key("x-request-id"));
        assert!(log.lines().is_empty());
        testing::run(testing::bytes(response.into_body())).expect("a body");

        let [line] = &log.lines()[..] else { panic!("one line") };
        assert_eq!(line["status"], 200);
        assert_eq!(line["path"], "/users/7");
        assert_eq!(line["bytes_out"], 11);
        assert_eq!(line["bytes_in"], 5);
        assert_eq!(line["endpoint"], "10.0.0.1:80");
        assert_eq!(line["plugins"][0]["us"], 42);
        assert_eq!(line["user_agent"], "test/1");
        assert_eq!(line.get("ended"), None);
        let text = line.to_string();
        assert!(!text.contains("secret") && !text.contains("Bearer"), "{text}");
    }

    #[test]
    fn a_client_that_goes_away_is_told_apart_from_a_body_that_failed() {
        let log = Log::open();
        drop(log.exchange(Method::GET, "/before"));

        let body = testing::chunks(vec![Ok(b"half"), Ok(b"never read")]);
        let mut response = testing::finished(log.exchange(Method::GET, "/during"), Response::new(body));
        testing::run(http_body_util::BodyExt::frame(response.body_mut())).expect("a frame").expect("bytes");
        drop(response);

        let body = testing::chunks(vec![Ok(b"half"), Err("reset")]);
        let response = testing::finished(log.exchange(Method::GET, "/cut"), Response::new(body));
        testing::run(testing::bytes(response.into_body())).expect_err("the body's failure");

        let lines = log.lines();
        let facts = |line: &Value| {
            let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (word("path"), line["status"].as_u64().unwrap_or(0), word("ended"), word("fault"))
        };
        let facts: Vec<_> = lines.iter().map(facts).collect();
        let expected = [
            ("/before", 499, "client-gone", "client-gone"),
            ("/during", 200, "client-gone", ""),
            ("/cut", 200, "cut", ""),
        ];
        let expected =
            expected.map(|(path, status, ended, fault)| (path.into(), status, ended.into(), fault.into()));
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_fault_tells_the_client_what_it_may_know_and_the_log_the_rest() {
        let log = Log::open();
        let mut exchange = log.exchange(Method::GET, "/");
        let fault = Fault::new(FaultKind::UpstreamUnreachable).cause("10.0.0.1:80 refused");
        let response = exchange.facts.fault(fault);
        let response = testing::finished(exchange, response);
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["proxy-status"], "witgate; error=connection_refused");
        let id = response.headers()["x-request-id"].clone();
        let body = testing::run(testing::bytes(response.into_body())).expect("a body");
        let document: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(document["code"], "upstream-unreachable");
        assert_eq!(document["instance"], id.to_str().expect("ASCII"));
        assert!(!document.to_string().contains("10.0.0.1"));
        let lines = log.lines();
        assert_eq!(lines[0]["cause"], "10.0.0.1:80 refused");
        assert_eq!(lines[0]["bytes_out"], body.len());
    }

    #[test]
    fn head_has_the_length_but_not_the_body() {
        let log = Log::open();
        let response = testing::finished(
            log.exchange(Method::HEAD, "/"),
            Response::new(Body::from(Bytes::from_static(b"12345"))),
        );
        assert_eq!(response.headers()["content-length"], "5");
        assert!(response.body().is_end_stream());
        drop(response);
        assert_eq!(log.lines()[0].get("ended"), None);
    }

    #[test]
    fn what_ended_is_in_the_metrics() {
        let log = Log::open();
        let mut exchange = log.exchange(Method::GET, "/");
        let route: Arc<str> = "a \"quoted\" route".into();
        exchange.series = Some(Arc::new(RouteSeries::new(route.clone())));
        Arc::make_mut(&mut exchange.facts.head).route = Some(route);
        exchange.count_in_flight();
        let during = log.telemetry.metrics().expose();
        let gauge = r#"witgate_requests_in_flight{listener="web",route="a \"quoted\" route"}"#;
        assert!(during.contains(&format!("{gauge} 1")), "{during}");
        drop(testing::finished(exchange, Response::new(Body::Empty)));
        let after = log.telemetry.metrics().expose();
        assert!(after.contains(&format!("{gauge} 0")), "{after}");
        let labels = r#"listener="web",route="a \"quoted\" route",upstream="-""#;
        let requests = format!("witgate_requests_total{{{labels},status=\"2xx\"}} 1");
        assert!(after.contains(&requests), "{after}");
        assert!(after.contains(&format!("witgate_request_duration_seconds_count{{{labels}}} 1")), "{after}");
        assert!(after.ends_with("# EOF\n"));
    }
}
