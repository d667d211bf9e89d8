//! How a record is written.

use std::time::Duration;

use serde_json::{Map, Value, json};
use witgate_sdk::{End, Exchange, settings};

/// A field of a record. There is no field for the query, which may hold credentials.
#[settings]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Field {
    /// When the exchange ended (RFC 3339, UTC).
    Time,
    /// From the request head to the end of the response, in microseconds.
    Microseconds,
    /// Name of the listener.
    Listener,
    /// Name of the route.
    Route,
    /// The request id.
    RequestId,
    /// The trace id.
    TraceId,
    /// Address of the client.
    Client,
    /// Subject of the caller.
    Subject,
    /// Method.
    Method,
    /// Host that the client asked for.
    Authority,
    /// Path without query.
    Path,
    /// Status that the client got.
    Status,
    /// `complete`, `client-gone` or `cut`.
    End,
    /// Bytes of the request body.
    Received,
    /// Bytes of the response body.
    Sent,
    /// Code of the fault.
    Fault,
    /// Name of the upstream.
    Upstream,
    /// Address of the endpoint.
    Endpoint,
    /// How often the request was sent to an upstream.
    Attempts,
    /// From the first byte sent upstream to the response head, in microseconds.
    UpstreamMicroseconds,
    /// The plugin calls: binding, phase, microseconds, failure.
    Plugins,
}

/// All fields, in their order.
pub(crate) fn all() -> Vec<Field> {
    Field::ALL.to_vec()
}

impl Field {
    pub(crate) const ALL: [Field; 21] = [
        Field::Time,
        Field::Microseconds,
        Field::Listener,
        Field::Route,
        Field::RequestId,
        Field::TraceId,
        Field::Client,
        Field::Subject,
        Field::Method,
        Field::Authority,
        Field::Path,
        Field::Status,
        Field::End,
        Field::Received,
        Field::Sent,
        Field::Fault,
        Field::Upstream,
        Field::Endpoint,
        Field::Attempts,
        Field::UpstreamMicroseconds,
        Field::Plugins,
    ];

    /// Its name in settings and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Field::Time => "time",
            Field::Microseconds => "microseconds",
            Field::Listener => "listener",
            Field::Route => "route",
            Field::RequestId => "request_id",
            Field::TraceId => "trace_id",
            Field::Client => "client",
            Field::Subject => "subject",
            Field::Method => "method",
            Field::Authority => "authority",
            Field::Path => "path",
            Field::Status => "status",
            Field::End => "end",
            Field::Received => "received",
            Field::Sent => "sent",
            Field::Fault => "fault",
            Field::Upstream => "upstream",
            Field::Endpoint => "endpoint",
            Field::Attempts => "attempts",
            Field::UpstreamMicroseconds => "upstream_microseconds",
            Field::Plugins => "plugins",
        }
    }

    /// Its value; null where there is none.
    pub(crate) fn value(self, exchange: &Exchange) -> Value {
        match self {
            Field::Time => time(exchange.ended_at).into(),
            Field::Microseconds => exchange.microseconds.into(),
            Field::Listener => exchange.listener.as_str().into(),
            Field::Route => exchange.route.as_str().into(),
            Field::RequestId => exchange.request_id.as_str().into(),
            Field::TraceId => exchange.trace_id.as_deref().into(),
            Field::Client => exchange.client_address.as_str().into(),
            Field::Subject => exchange.subject.as_deref().into(),
            Field::Method => exchange.method.as_str().into(),
            Field::Authority => exchange.authority.as_str().into(),
            Field::Path => exchange.path.as_str().into(),
            Field::Status => exchange.status.into(),
            Field::End => end(exchange.end).into(),
            Field::Received => exchange.received.into(),
            Field::Sent => exchange.sent.into(),
            Field::Fault => exchange.fault.as_deref().into(),
            Field::Upstream => exchange.upstream.as_deref().into(),
            Field::Endpoint => exchange.endpoint.as_deref().into(),
            Field::Attempts => exchange.attempts.into(),
            Field::UpstreamMicroseconds => exchange.upstream_microseconds.into(),
            Field::Plugins => {
                let step = |step: &witgate_sdk::Step| {
                    json!({
                        "binding": step.binding, "phase": step.phase, "microseconds": step.microseconds,
                        "failure": step.failure,
                    })
                };
                exchange.steps.iter().map(step).collect()
            }
        }
    }
}

/// How records are written.
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Format {
    /// An object of JSON a line (`application/x-ndjson`).
    #[default]
    JsonLines,
    /// A list of objects (`application/json`).
    Json,
    /// Lines of syslog (RFC 5424) with the object as the message (`text/plain`).
    Syslog,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::JsonLines => "application/x-ndjson",
            Format::Json => "application/json",
            Format::Syslog => "text/plain; charset=utf-8",
        }
    }

    /// One record, without what separates records.
    pub(crate) fn record(self, exchange: &Exchange, members: Map<String, Value>) -> String {
        let object = Value::Object(members).to_string();
        if self != Format::Syslog {
            return object;
        }
        // Facility 16 (local0); severity 3 (error) for what the gateway or an upstream failed at, otherwise 6 (information).
        let severity = if exchange.status >= 500 { 3 } else { 6 };
        let host: String = exchange.listener.chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-" } else { &host };
        format!("<{}>1 {} {host} witgate - - - {object}", 16 * 8 + severity, time(exchange.ended_at))
    }

    /// The beginning of a message.
    pub(crate) fn begin(self) -> String {
        if self == Format::Json { "[".to_owned() } else { String::new() }
    }

    /// Adds a record.
    pub(crate) fn append(self, body: &mut String, record: &str, is_first: bool) {
        if self == Format::Json && !is_first {
            body.push(',');
        }
        body.push_str(record);
        if self != Format::Json {
            body.push('\n');
        }
    }

    /// The whole message.
    pub(crate) fn finished(self, mut body: String) -> String {
        if self == Format::Json {
            body.push(']');
        }
        body
    }
}

fn end(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::ClientGone => "client-gone",
        End::Cut => "cut",
    }
}

/// A time in milliseconds since 1970, as RFC 3339 writes it, in UTC.
fn time(milliseconds: u64) -> String {
    let time = Duration::from_millis(milliseconds);
    let (seconds, of_second) = (time.as_secs(), time.subsec_millis());
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{of_second:03}Z")
}

/// Year, month and day of the month of a day that is counted from 1970-01-01.
fn date(day: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, day);
    loop {
        let length = 365 + u64::from(is_leap(year));
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_800_001, "2000-03-01T00:00:00.001Z"),
            (1_709_208_000_000, "2024-02-29T12:00:00.000Z"),
            (1_798_761_599_000, "2026-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(time(milliseconds), text);
        }
    }
}
