//! The settings of health checks and of outlier ejection.

use std::time::Duration;

use super::Statuses;

/// `[upstreams.NAME.health]`: active checks of each endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// What is sent, and what must come back.
    pub check: Check,
    /// Time from the beginning of one check to the beginning of the next.
    pub interval: Duration,
    /// The interval while the endpoint is unhealthy, or its last check contradicts its state.
    pub recheck_interval: Duration,
    /// The share, 0 to 1, by which an interval may be shortened at random, so that gateways do not check in step.
    pub jitter: f64,
    /// Time for one check, including the connection.
    pub timeout: Duration,
    /// Consecutive checks that must succeed before an unhealthy endpoint is healthy; at least 1.
    pub healthy_threshold: u32,
    /// Consecutive checks that must fail before a healthy endpoint is unhealthy; at least 1.
    pub unhealthy_threshold: u32,
    /// What becomes of the requests that wait at an endpoint when its checks have failed.
    pub on_unhealthy: OnUnhealthy,
    /// The port that is checked; `None`: the endpoint's own.
    pub port: Option<u16>,
}

/// What becomes of the requests that wait at an endpoint when its checks have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnhealthy {
    /// Those that are safe to send again go to another endpoint; the others wait on.
    #[default]
    Retry,
    /// Everything that waits ends as `upstream-reset`.
    Reset,
}

/// The kind of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A request in the upstream's protocol.
    Http(HttpCheck),
    /// `grpc.health.v1.Health/Check`, which must return `SERVING`.
    Grpc {
        /// The service asked about; empty: the server as a whole.
        service: String,
    },
    /// A connection.
    Tcp {
        /// The bytes sent over it.
        send: Vec<u8>,
        /// Bytes that the received ones must contain; empty: connecting is enough.
        expect: Vec<u8>,
    },
}

/// A request that finds out whether an endpoint is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The value of `Host`; `None`: the endpoint itself.
    pub host: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Statuses of a healthy endpoint, as inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
    /// What the body must contain.
    pub body: Option<BodyCheck>,
    /// Bytes of the body that are checked. The rest is not read.
    pub body_limit: usize,
}

/// What the response body of a healthy endpoint contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyCheck {
    /// This text, anywhere.
    Contains(String),
    /// Text that this regular expression matches.
    Matches(String),
}

/// `[upstreams.NAME.ejection]`: outlier ejection of endpoints that fail requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// Statuses of responses that count as faults.
    pub statuses: Statuses,
    /// Consecutive faults (not reached, reset, timed out, malformed, or one of `statuses`) that eject; 0: never.
    pub consecutive_faults: u32,
    /// Consecutive faults or statuses from 500 that eject; 0: never.
    pub consecutive_server_errors: u32,
    /// How often success rates are compared, and after how long in service one ejection is forgotten.
    pub interval: Duration,
    /// How long the first ejection lasts; the second in a row lasts twice as long, and so on.
    pub base_time: Duration,
    /// The longest an ejection lasts.
    pub max_time: Duration,
    /// The share of an upstream's endpoints that may be ejected at once, in percent, rounded up.
    pub max_ejected: u32,
    /// Comparison of endpoints by success rate; `None`: they are not compared.
    pub success_rate: Option<SuccessRate>,
}

/// When an endpoint's success rate is so far below the others' that it is ejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuccessRate {
    /// Standard deviations below the mean.
    pub deviations: f64,
    /// The least distance below the mean, as a share of 1.
    pub margin: f64,
    /// The fewest endpoints with enough requests.
    pub minimum_endpoints: usize,
    /// The fewest requests of an endpoint within the interval.
    pub minimum_requests: u64,
}
