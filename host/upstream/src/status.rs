//! The status of upstreams, for the admin listener and the command line.

pub(crate) mod expose;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use witgate_config::model::UpstreamProtocol;

use super::admission::limits_requests;
use super::deliver::{Counts, TriesStatus};
use super::discovery::SinkStatus;
use super::set::Member;
use super::{Availability, BreakerState, HealthState, Upstream, Upstreams};
use crate::balancer::clock;
use crate::observe::events::Event;

/// The status of an upstream, over all cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// The name.
    pub name: String,
    /// The balancing policy.
    pub balancer: String,
    /// The number of open connections.
    pub connections: usize,
    /// The limit on connections; 0: none.
    pub max_connections: usize,
    /// The number of requests that wait for a connection.
    pub pending: usize,
    /// Whether so few endpoints are usable that health is ignored.
    pub panics: bool,
    /// The state of its own breaker. `None` if it has none.
    pub breaker: Option<BreakerState>,
    /// Its requests in flight and their limits. `None` if they are not limited.
    pub load: Option<LoadStatus>,
    /// The number of requests that were dropped at its limits.
    pub shed: u64,
    /// Whether requests are being dropped.
    pub shedding: bool,
    /// How often each of its fallbacks was used: `upstream`, `respond`.
    pub fallbacks: BTreeMap<String, u64>,
    /// Its endpoints, in the order of their source.
    pub endpoints: Vec<EndpointStatus>,
    /// How often requests were sent in addition to their first attempt.
    pub tries: TriesStatus,
    /// The state of the source of its endpoints. Absent for the fixed list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SinkStatus>,
    /// Its latest changes of state, oldest first.
    pub events: Vec<EventStatus>,
}

/// Requests in flight and their limits, over all cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadStatus {
    /// The number of requests in flight.
    pub requests: usize,
    /// The fixed limit; 0: none.
    pub max_requests: usize,
    /// The current adaptive limit. `None` if there is none.
    pub concurrency: Option<usize>,
    /// The number of requests that wait for a permit.
    pub waiting: usize,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStatus {
    /// Milliseconds since 1970.
    pub at: u64,
    /// What changed, e.g. `breaker-opened`.
    pub event: String,
    /// The endpoint concerned. `None` for the upstream as a whole.
    pub endpoint: Option<String>,
    /// Why, in a few words.
    pub why: String,
}

/// The status of an endpoint, over all cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// `host:port`.
    pub address: String,
    /// Its weight: as its source reports it, or as an operator has set it since.
    pub weight: u32,
    /// The weight in the file, if an operator has set another.
    pub written_weight: Option<u32>,
    /// The percentage of its weight that it takes, less than 100 during slow start.
    pub percent: u32,
    /// The priority; 0 is the first.
    pub priority: u32,
    /// The zone of the endpoint.
    pub zone: Option<String>,
    /// Whether it takes requests, and the reason if it does not.
    pub availability: Availability,
    /// Its average latency in microseconds, if the balancing policy observes it.
    pub latency_micros: Option<u64>,
    /// The time to the response head in microseconds that half of its recent requests did not exceed; absent if
    /// there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_micros: Option<u64>,
    /// As `p50_micros`, for 95 of 100 requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_micros: Option<u64>,
    /// The addresses of its host, if that is a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<IpAddr>,
    /// Why the latest look-up of its host failed; absent if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup_failure: Option<String>,
    /// The number of requests in flight.
    pub active: usize,
    /// The number of open connections.
    pub connections: usize,
    /// The number of idle connections. An HTTP/2 connection counts as idle only while it has no streams.
    pub idle: usize,
    /// The state of its breaker.
    pub breaker: BreakerState,
    /// Its health according to active checks.
    pub health: HealthState,
    /// Active checks that succeeded, over the life of the endpoint.
    pub checks_succeeded: u64,
    /// Active checks that failed.
    pub checks_failed: u64,
    /// Why the latest active check failed. `None` if it did not fail.
    pub check_failure: Option<String>,
    /// Milliseconds for which it is still ejected. `None` if it is not ejected.
    pub ejected_for: Option<u64>,
    /// The number of successful requests.
    pub requests_succeeded: u64,
    /// The number of failed requests: by faults, or by statuses from 500 on.
    pub requests_failed: u64,
}

/// The status of the upstreams of a snapshot, sorted by name.
pub fn status(upstreams: &Upstreams) -> Vec<UpstreamStatus> {
    let mut upstreams: Vec<UpstreamStatus> = upstreams.values().map(|upstream| upstream.status()).collect();
    upstreams.sort_by(|first, second| first.name.cmp(&second.name));
    upstreams
}

impl Upstream {
    fn status(&self) -> UpstreamStatus {
        let set = self.set.load();
        let endpoints = set.members().map(|member| self.endpoint_status(member));
        UpstreamStatus {
            name: self.name.to_string(),
            balancer: self.config.balancer.kind.clone(),
            connections: self.carried.limit.open(),
            max_connections: self.config.max_connections,
            pending: self.carried.limit.waiting(),
            panics: set.view.panics,
            breaker: self.config.upstream_breaker.map(|_| self.carried.admissions.breaker.state()),
            load: self.load(),
            shed: self.carried.admissions.shedding.count(),
            shedding: self.carried.admissions.shedding.is_under_way(),
            fallbacks: self.fallbacks(),
            endpoints: endpoints.collect(),
            tries: self.carried.tries.counts.status(),
            source: self.carried.sink.status(),
            events: self.carried.events.recent().into_iter().map(event_status).collect(),
        }
    }

    /// The status of one endpoint.
    pub(crate) fn endpoint_status(&self, member: &Member) -> EndpointStatus {
        let (endpoint, spec) = (member.endpoint(), &member.spec);
        let state = self.state_of(member, clock::now());
        let active = endpoint.active.load(Ordering::Relaxed);
        let connections = endpoint.connections.load(Ordering::Relaxed);
        let (checks_succeeded, checks_failed) = endpoint.health.checks();
        let (requests_succeeded, requests_failed) = endpoint.ejection.requests();
        let remains = endpoint.ejection.remains(Instant::now());
        let times = endpoint.times.quantiles([0.5, 0.95]);
        let micros = |index: usize| times.map(|times| times[index].as_micros() as u64);
        let looked_up = endpoint.addresses.looked_up().unwrap_or_default();
        EndpointStatus {
            address: endpoint.name.to_string(),
            weight: state.weight,
            written_weight: endpoint.share.other_weight(spec.weight).map(|_| spec.weight),
            percent: state.percent,
            priority: spec.priority,
            zone: spec.zone.clone(),
            availability: state.availability,
            latency_micros: endpoint.latency.micros(),
            p50_micros: micros(0),
            p95_micros: micros(1),
            resolved: looked_up.addresses.to_vec(),
            lookup_failure: looked_up.failure.map(|why| why.to_string()),
            active,
            connections,
            idle: match self.config.protocol {
                UpstreamProtocol::Http1 => connections.saturating_sub(active),
                UpstreamProtocol::Http2 if active == 0 => connections,
                UpstreamProtocol::Http2 | UpstreamProtocol::Tcp => 0,
            },
            breaker: endpoint.breaker.state(),
            health: endpoint.health.state(),
            checks_succeeded,
            checks_failed,
            check_failure: endpoint.health.why(),
            ejected_for: remains.map(|remains| remains.as_millis() as u64),
            requests_succeeded,
            requests_failed,
        }
    }

    /// How often requests were sent in addition to their first attempt, and why.
    pub(crate) fn tries(&self) -> &Counts {
        &self.carried.tries.counts
    }

    fn load(&self) -> Option<LoadStatus> {
        let (config, permits) = (&self.config, &self.carried.admissions.permits);
        limits_requests(config).then(|| LoadStatus {
            requests: permits.taken(),
            max_requests: config.max_requests,
            concurrency: config.concurrency.as_ref().map(|settings| permits.limit(settings)),
            waiting: permits.waiting(),
        })
    }

    fn fallbacks(&self) -> BTreeMap<String, u64> {
        let counts = self.fallback.iter().flat_map(|fallback| fallback.taken.counts());
        counts.filter(|(_, count)| *count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
    }

    /// How often each change of state happened: kind, endpoint, count.
    pub(crate) fn event_counts(&self) -> Vec<(&'static str, Option<String>, u64)> {
        let counts = self.carried.events.counts().into_iter();
        counts
            .map(|((kind, endpoint), count)| (kind.as_str(), endpoint.map(|name| name.to_string()), count))
            .collect()
    }
}

fn event_status(event: Event) -> EventStatus {
    EventStatus {
        at: event.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        event: event.kind.as_str().to_owned(),
        endpoint: event.endpoint.map(|name| name.to_string()),
        why: event.why,
    }
}
