//! `[telemetry]`: logs and traces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, Section};
use crate::model;
use crate::pointer::child;

/// Logs and traces. Metrics are on the admin listener, `/metrics`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// Where the access log goes, one JSON object per line: `"stdout"`, `"stderr"`, `"off"` or the path of a file.
    #[schemars(length(min = 1))]
    access_log: String,
    /// Lines that the access log's queue holds. Requests never wait for the log: further lines are dropped and
    /// counted.
    #[schemars(range(min = 1, max = 10_000_000))]
    access_log_queue: usize,
    /// The lowest level that the gateway's own log contains. It goes to standard error.
    log_level: LogLevel,
    /// Sends spans by OTLP over HTTP. Without it the gateway takes no part in traces: `traceparent`, `tracestate`
    /// and `baggage` are forwarded as received, and none is added.
    otlp: Option<Otlp>,
}

/// The levels of the log.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Sends spans by OTLP over HTTP.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Otlp {
    /// Name of the upstream that is the collector.
    upstream: String,
    /// Path of the trace endpoint.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1))]
    path: String,
    /// Share of new traces that are sampled, 0 to 1. The sampled flag of a received `traceparent` is honored.
    #[serde(default = "default_sample")]
    #[schemars(range(min = 0.0, max = 1.0))]
    sample: f64,
    /// The `service.name` of the spans.
    #[serde(default = "default_service_name")]
    #[schemars(length(min = 1))]
    service_name: String,
}

fn default_path() -> String {
    "/v1/traces".to_owned()
}

fn default_sample() -> f64 {
    1.0
}

fn default_service_name() -> String {
    "witgate".to_owned()
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            access_log: "stdout".to_owned(),
            access_log_queue: 8192,
            log_level: LogLevel::Info,
            otlp: None,
        }
    }
}

impl Section for Telemetry {
    type Meant = model::Telemetry;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Telemetry> {
        Some(model::Telemetry {
            access_log: match self.access_log.as_str() {
                "off" => None,
                "stdout" => Some(model::LogTarget::Stdout),
                "stderr" => Some(model::LogTarget::Stderr),
                path => Some(model::LogTarget::File(scope.path(&child(at, "access_log"), path))),
            },
            access_log_queue: self.access_log_queue,
            log_level: match self.log_level {
                LogLevel::Debug => model::LogLevel::Debug,
                LogLevel::Info => model::LogLevel::Info,
                LogLevel::Warn => model::LogLevel::Warn,
                LogLevel::Error => model::LogLevel::Error,
            },
            otlp: self.otlp.map(|otlp| otlp.meant(&child(at, "otlp"), scope)),
        })
    }
}

impl Otlp {
    fn meant(self, at: &str, scope: &mut Scope) -> model::Otlp {
        scope.check_upstream(&child(at, "upstream"), &self.upstream);
        if !self.path.starts_with('/') {
            scope.report(&child(at, "path"), "the path does not begin with `/`", None);
        }
        model::Otlp {
            upstream: self.upstream,
            path: self.path,
            sample: self.sample,
            service_name: self.service_name,
        }
    }
}
