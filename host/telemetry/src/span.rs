//! Converts records to spans: OTLP, with OpenTelemetry's semantic conventions for HTTP.
//!
//! A request is a server span. Every plugin call, and every time that the request or a plugin's `fetch` is sent to
//! an endpoint, is a child of it.

use std::time::{Duration, Instant, UNIX_EPOCH};

use http::Version;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use witgate_exchange::grpc::Code;
use witgate_exchange::log_entry::{End, LogEntry};
use witgate_exchange::record::{PluginCall, Recalled};
use witgate_exchange::trace::{self, Clock, SpanId, TraceContext};

use crate::client_span::{ClientNotes, Outcome};
use crate::export::FinishedSpan;

/// The flag of a sampled trace (W3C Trace Context section 3.2.2.5), also used in `Span.flags`.
const SAMPLED: u32 = 1;

/// The message for one batch.
pub(super) fn batch(service_name: &str, told: &[FinishedSpan]) -> ExportTraceServiceRequest {
    let attributes = vec![
        text("service.name", service_name),
        text("telemetry.sdk.name", "witgate"),
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let scope = InstrumentationScope {
        name: "witgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let spans = told.iter().flat_map(spans).collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }],
            ..Default::default()
        }],
    }
}

/// How many spans an item makes.
pub(super) fn count(told: &FinishedSpan) -> u64 {
    match told {
        FinishedSpan::Request(entry) => 1 + entry.plugins.len() as u64,
        FinishedSpan::Client(_) => 1,
    }
}

fn spans(told: &FinishedSpan) -> Vec<Span> {
    match told {
        FinishedSpan::Request(entry) => of_request(entry),
        FinishedSpan::Client(notes) => vec![client(notes)],
    }
}

fn of_request(entry: &LogEntry) -> Vec<Span> {
    // Only entries that are sampled, and so have a trace, are passed to an exporter.
    let Some(trace) = &entry.head.trace else { return Vec::new() };
    let clock = clock(entry, trace);
    let mut spans = vec![server(entry, trace, &clock)];
    spans.extend(entry.plugins.iter().map(|call| plugin(trace, call, &clock)));
    spans
}

/// Converts the times of a request to times of day.
fn clock(entry: &LogEntry, trace: &TraceContext) -> Clock {
    let of_its_end = || Clock {
        moment: entry.begun,
        time_of_day: entry.ended.checked_sub(entry.time).unwrap_or(UNIX_EPOCH),
    };
    trace.clock().unwrap_or_else(of_its_end)
}

fn set_times(span: &mut Span, clock: &Clock, begun: Instant, time: Duration) {
    span.start_time_unix_nano = clock.nanoseconds(begun);
    span.end_time_unix_nano = clock.nanoseconds(begun + time);
}

/// A span of a trace without its times: a child of the request's own span unless `parent_span_id` is changed.
fn span(trace: &TraceContext, id: &SpanId, name: String, kind: SpanKind) -> Span {
    Span {
        trace_id: trace.trace_id.to_vec(),
        span_id: id.to_vec(),
        parent_span_id: trace.span.to_vec(),
        trace_state: trace.state.as_deref().unwrap_or_default().to_owned(),
        flags: SAMPLED,
        name,
        kind: kind.into(),
        ..Default::default()
    }
}

fn server(entry: &LogEntry, trace: &TraceContext, clock: &Clock) -> Span {
    let head = &entry.head;
    let name = match &head.route {
        None => head.method.to_string(),
        Some(route) => format!("{} {route}", head.method),
    };
    let mut attributes = vec![
        text("http.request.method", head.method.as_str()),
        text("url.path", head.received_target().path()),
        text("url.scheme", head.scheme.as_str()),
        text("server.address", head.host()),
        text("client.address", &head.client.address.to_string()),
        text("network.peer.address", &head.client.peer.ip().to_string()),
        text("network.protocol.version", protocol_version(entry.version)),
        number("http.response.status_code", entry.status.as_u16().into()),
        number("http.request.body.size", entry.received),
        number("http.response.body.size", entry.sent),
        text("witgate.listener", &entry.listener),
        text("witgate.request_id", &head.request_id),
    ];
    if let Some(route) = &head.route {
        attributes.push(text("witgate.route", route));
    }
    if let Some(agent) = head.headers.get(http::header::USER_AGENT) {
        attributes.push(text("user_agent.original", &String::from_utf8_lossy(agent.as_bytes())));
    }
    attributes.extend(of_call(entry));
    attributes.extend(entry.injected.names().map(|name| text("witgate.injected", name)));
    let error = error_type(entry);
    attributes.extend(error.as_deref().map(|error| text("error.type", error)));
    let mut span = span(trace, &trace.span, name, SpanKind::Server);
    set_times(&mut span, clock, entry.begun, entry.time);
    span.parent_span_id = trace.parent.map(Vec::from).unwrap_or_default();
    span.attributes = attributes;
    span.events = entry.recalled.iter().map(|one| recalled(one, clock)).collect();
    span.status = error.filter(|_| is_failure(entry)).map(|_| failed());
    span
}

/// The attributes of a call of gRPC (semantic conventions for gRPC).
fn of_call(entry: &LogEntry) -> Vec<KeyValue> {
    if !entry.is_call {
        return Vec::new();
    }
    let path = entry.head.path().trim_start_matches('/');
    let mut attributes = vec![text("rpc.system", "grpc")];
    if let Some((service, method)) = entry.grpc_method.as_deref().unwrap_or(path).split_once('/') {
        attributes.extend([text("rpc.service", service), text("rpc.method", method)]);
    }
    attributes.extend(entry.grpc_status.map(|code| number("rpc.grpc.status_code", code.number().into())));
    attributes
}

/// The gRPC status of a request, if it is an error of the server.
fn grpc_error(entry: &LogEntry) -> Option<Code> {
    entry.grpc_status.filter(|code| code.is_server_error())
}

/// One sending of a request to an endpoint, until the head of the response.
fn client(notes: &ClientNotes) -> Span {
    let mut span = span(&notes.trace, &notes.id, notes.method.to_string(), SpanKind::Client);
    if let Some((clock, begun)) = notes.trace.clock().zip(notes.begun) {
        set_times(&mut span, &clock, begun, notes.time);
    }
    span.attributes = vec![
        text("http.request.method", notes.method.as_str()),
        number("http.request.resend_count", notes.resends.into()),
        text("witgate.upstream", &notes.upstream),
        text("server.address", &notes.endpoint),
    ];
    let error = match notes.outcome {
        Outcome::Answered(status, grpc_status) => {
            span.attributes.push(number("http.response.status_code", status.as_u16().into()));
            span.attributes.extend(grpc_status.map(|code| number("rpc.grpc.status_code", code.into())));
            // For client spans, 4xx are errors too, and every gRPC status but 0 is (semantic conventions for HTTP and RPC
            // client spans).
            let of_grpc = grpc_status.filter(|code| *code != 0).map(|code| format!("grpc-status-{code}"));
            of_grpc.or((status.as_u16() >= 400).then(|| status.as_str().to_owned()))
        }
        Outcome::Failed(kind) => Some(kind.describe().code.to_owned()),
        Outcome::Abandoned => {
            span.attributes.push(text("error.type", "abandoned"));
            return span;
        }
    };
    span.attributes.extend(error.as_deref().map(|error| text("error.type", error)));
    span.status = error.map(|_| failed());
    span
}

fn plugin(trace: &TraceContext, call: &PluginCall, clock: &Clock) -> Span {
    let name = format!("plugin {} {}", call.binding, call.phase);
    let mut span = span(trace, &trace::span_id(), name, SpanKind::Internal);
    set_times(&mut span, clock, call.begun, call.time);
    span.attributes = vec![text("witgate.binding", &call.binding), text("witgate.phase", call.phase)];
    if !call.decision.is_empty() {
        span.attributes.push(text("witgate.decision", call.decision));
    }
    if let Some(cost) = call.cost {
        span.attributes.push(number("witgate.cpu_time_us", microseconds(cost.cpu)));
        span.attributes.push(number("witgate.instance_wait_us", microseconds(cost.waited)));
    }
    let own = call.attributes.iter().map(|(name, value)| text(&format!("plugin.{name}"), value));
    span.attributes.extend(own);
    if let Some(failure) = call.failure {
        span.attributes.push(text("error.type", failure.as_str()));
        span.status = Some(Status { message: failure.describe().to_owned(), ..failed() });
    }
    span
}

/// A remembered result that was used in place of a call: it took no time, so it is an event and no span.
fn recalled(recalled: &Recalled, clock: &Clock) -> Event {
    Event {
        time_unix_nano: clock.nanoseconds(recalled.at),
        name: "plugin result remembered".to_owned(),
        attributes: vec![text("witgate.binding", &recalled.binding), text("witgate.phase", recalled.phase)],
        ..Default::default()
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Whether a request is an error. Statuses of 4xx are the client's errors (semantic conventions for HTTP server
/// spans).
fn is_failure(entry: &LogEntry) -> bool {
    entry.status.is_server_error() || entry.end == End::Cut || grpc_error(entry).is_some()
}

fn error_type(entry: &LogEntry) -> Option<String> {
    match &entry.fault {
        Some((kind, _)) => Some(kind.describe().code.to_owned()),
        None if entry.end == End::Cut => Some("cut".to_owned()),
        None if entry.status.is_server_error() => Some(entry.status.as_str().to_owned()),
        None => grpc_error(entry).map(|code| format!("grpc-status-{}", code.number())),
    }
}

fn failed() -> Status {
    Status { code: StatusCode::Error.into(), ..Default::default() }
}

fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, StatusCode as Status};
    use prost::Message;
    use witgate_exchange::call_cost::CallCost;
    use witgate_exchange::contracts::CallFailure;
    use witgate_exchange::fault::FaultKind;
    use witgate_exchange::record::Record;
    use witgate_exchange::testing;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// A request with one plugin call, as a collector receives it.
    fn exported(status: Status, record: Record) -> Vec<Span> {
        let mut head = testing::head(Method::GET, "/users/7?token=secret", &[("traceparent", PARENT)]);
        head.trace = Some(TraceContext::from_headers(&head.headers, 0.0));
        let facts = testing::facts(head);
        let begun = facts.begun;
        let mut entry = LogEntry::new(&facts, &"web".into(), status, record);
        entry.ended = UNIX_EPOCH + Duration::from_secs(100);
        entry.time = Duration::from_secs(1);
        entry.plugins.push(PluginCall {
            binding: "jwt".into(),
            phase: "authentication",
            begun: begun + Duration::from_millis(1),
            time: Duration::from_micros(50),
            failure: Some(CallFailure::Trap),
            decision: "",
            cost: Some(CallCost { cpu: Duration::from_micros(40), waited: Duration::from_millis(2) }),
            attributes: vec![("tokens".into(), "17".into())],
        });
        let at = begun + Duration::from_millis(3);
        entry.recalled.push(Recalled { binding: "limit".into(), phase: "rate-limiting", at });
        let told = [FinishedSpan::Request(Arc::new(entry))];
        assert_eq!(count(&told[0]), 2);
        let bytes = batch("the-gateway", &told).encode_to_vec();
        let batch = ExportTraceServiceRequest::decode(&bytes[..]).expect("what was encoded");
        let [resource] = &batch.resource_spans[..] else { panic!("one resource") };
        let name = &resource.resource.as_ref().expect("a resource").attributes[0];
        assert_eq!(name, &text("service.name", "the-gateway"));
        resource.scope_spans[0].spans.clone()
    }

    #[test]
    fn a_request_is_a_server_span_with_its_children() {
        let spans = exported(Status::OK, Record::default());
        let [server, plugin] = &spans[..] else { panic!("two spans") };
        assert_eq!(trace::hexadecimal_text(&server.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace::hexadecimal_text(&server.parent_span_id), "b7ad6b7169203331");
        assert_eq!(server.kind(), SpanKind::Server);
        assert_eq!(server.start_time_unix_nano, 99_000_000_000);
        assert_eq!(server.end_time_unix_nano, 100_000_000_000);
        assert_eq!(server.status, None);
        assert!(server.attributes.contains(&number("http.response.status_code", 200)));
        assert!(server.attributes.contains(&text("url.path", "/users/7")));
        assert!(!format!("{spans:?}").contains("secret"));
        assert_eq!((&plugin.trace_id, &plugin.parent_span_id), (&server.trace_id, &server.span_id));
        assert_ne!(plugin.span_id, server.span_id);
        assert_eq!(plugin.start_time_unix_nano, 99_001_000_000);
        let failure = plugin.status.as_ref().expect("a failed call");
        assert_eq!((failure.code(), &*failure.message), (StatusCode::Error, "the plugin trapped"));
        for attribute in [number("witgate.cpu_time_us", 40), number("witgate.instance_wait_us", 2000)] {
            assert!(plugin.attributes.contains(&attribute), "{plugin:?}");
        }
        let [event] = &server.events[..] else { panic!("one event") };
        assert_eq!((&*event.name, event.time_unix_nano), ("plugin result remembered", 99_003_000_000));
        assert!(event.attributes.contains(&text("witgate.binding", "limit")));
    }

    #[test]
    fn only_failures_of_this_side_are_errors() {
        let fault = |kind| Record { fault: Some((kind, None)), ..Record::default() };
        let forbidden = exported(Status::FORBIDDEN, fault(FaultKind::Forbidden));
        assert_eq!(forbidden[0].status, None);
        assert!(forbidden[0].attributes.contains(&text("error.type", "forbidden")));
        let refused = exported(Status::BAD_GATEWAY, fault(FaultKind::UpstreamUnreachable));
        assert_eq!(refused[0].status, Some(failed()));
    }
}
