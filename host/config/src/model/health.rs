//! What is meant by the health of endpoints: active checks, and ejection by what requests show.

use std::time::Duration;

use super::Statuses;

/// `[upstreams.NAME.health]`: checks of each endpoint by requests of the gateway's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// What is asked, and what must come back.
    pub check: Check,
    /// From the begin of one check to the begin of the next.
    pub interval: Duration,
    /// The same while the endpoint is unhealthy, or its last check contradicts what it is held for.
    pub recheck_interval: Duration,
    /// The share, 0 to 1, by which an interval may be shortened at random, so that gateways do not check in step.
    pub jitter: f64,
    /// Time for one check, connecting included.
    pub timeout: Duration,
    /// Checks in a row that must succeed before an unhealthy endpoint is healthy; at least 1.
    pub healthy_threshold: u32,
    /// Checks in a row that must fail before a healthy endpoint is unhealthy; at least 1.
    pub unhealthy_threshold: u32,
    /// The port that is checked; none: the endpoint's own.
    pub port: Option<u16>,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A request in the upstream's protocol.
    Http(HttpCheck),
    /// `grpc.health.v1.Health/Check`, which must answer `SERVING`.
    Grpc {
        /// The service asked for; empty: the server as a whole.
        service: String,
    },
    /// A connection.
    Tcp {
        /// What is sent over it.
        send: Vec<u8>,
        /// What must come back, among whatever else comes; empty: nothing need come.
        expect: Vec<u8>,
    },
}

/// A request that shows whether an endpoint is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What `Host` says; none: the endpoint itself.
    pub host: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Statuses of a healthy endpoint: ranges, both ends included.
    pub statuses: Vec<(u16, u16)>,
    /// What the body must hold.
    pub body: Option<BodyCheck>,
    /// Bytes of the body that are looked at. The rest is not read.
    pub body_limit: usize,
}

/// What the body of a healthy endpoint's answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyCheck {
    /// This text, somewhere.
    Contains(String),
    /// Something this regular expression matches.
    Matches(String),
}

/// `[upstreams.NAME.ejection]`: endpoints that fail requests are left out for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// Statuses of answers that are faults.
    pub statuses: Statuses,
    /// Faults in a row (not reached, reset, too late, malformed, or one of `statuses`) that eject; 0: never.
    pub consecutive_faults: u32,
    /// The same for these and any other status from 500; 0: never.
    pub consecutive_server_errors: u32,
    /// How often success rates are compared, and after how long in service one ejection is forgotten.
    pub interval: Duration,
    /// How long the first ejection lasts; the second in a row lasts twice as long, and so on.
    pub base_time: Duration,
    /// The longest an ejection lasts.
    pub max_time: Duration,
    /// The share of an upstream's endpoints that may be ejected at once, in percent, rounded up.
    pub max_ejected: u32,
    /// Comparing endpoints by their success rates; none: they are not compared.
    pub success_rate: Option<SuccessRate>,
}

/// When an endpoint's success rate is so far below those of all that it is ejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuccessRate {
    /// Standard deviations below the mean.
    pub deviations: f64,
    /// How far below the mean it must be in any case, as a share of 1.
    pub margin: f64,
    /// Endpoints with enough requests that there must be.
    pub minimum_endpoints: usize,
    /// Requests of an endpoint within the interval that are enough to judge it.
    pub minimum_requests: u64,
}
