//! The gateway's own metrics.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::fault::FaultKind;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::{NONE, Series};
use crate::upstream::{
    self, Availability, BreakerState, EndpointStatus, HealthState, LoadStatus, UpstreamStatus,
};

/// The label values of the classes of [`Series`].
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The states of a circuit breaker, with their label values.
const BREAKER_STATES: [(BreakerState, &str); 3] =
    [(BreakerState::Closed, "closed"), (BreakerState::Open, "open"), (BreakerState::HalfOpen, "half-open")];

/// Every availability of an endpoint.
const AVAILABILITIES: [Availability; 5] = [
    Availability::Available,
    Availability::Probing,
    Availability::Unhealthy,
    Availability::Resting,
    Availability::Drained,
];

/// The states of active health checks, with their label values.
const HEALTH_STATES: [(HealthState, &str); 3] = [
    (HealthState::Unknown, "unknown"),
    (HealthState::Healthy, "healthy"),
    (HealthState::Unhealthy, "unhealthy"),
];

/// The labels of a family with a single sample.
const NO_LABELS: [(&str, &str); 0] = [];

/// Registers the gateway's own metrics.
pub(super) fn register(telemetry: &Arc<Telemetry>) {
    telemetry.metrics.register(Box::new(Own(Arc::downgrade(telemetry))));
}

/// The collector. The reference is weak, because the telemetry owns its collectors.
struct Own(Weak<Telemetry>);

impl fmt::Debug for Own {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Own")
    }
}

impl Collector for Own {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(telemetry) = self.0.upgrade() else { return Ok(()) };
        requests(&telemetry, &mut encoder)?;
        connections(&telemetry, &mut encoder)?;
        decisions(&telemetry, &mut encoder)?;
        upstreams(&telemetry, &mut encoder)?;
        process(&telemetry, &mut encoder)
    }
}

/// A metric family being written: one descriptor, then a sample for each set of labels.
///
/// Other collectors use it too, because the encoder's own interface needs five lines for a sample.
pub struct Family<'a>(MetricEncoder<'a>);

impl<'a> Family<'a> {
    /// Begins a family of counters; `_total` is appended to the name.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn counters(
        encoder: &'a mut DescriptorEncoder,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Counter).map(Family)
    }

    /// Begins a family of gauges.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gauges(encoder: &'a mut DescriptorEncoder, name: &'a str, help: &str) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Gauge).map(Family)
    }

    /// Begins a family of histograms.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn histograms(
        encoder: &'a mut DescriptorEncoder,
        name: &'a str,
        help: &str,
    ) -> Result<Self, fmt::Error> {
        encoder.encode_descriptor(name, help, None, MetricType::Histogram).map(Family)
    }

    /// A sample of a counter.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn counter(&mut self, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_family(labels)?)
    }

    /// A sample of a gauge.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gauge(&mut self, labels: &impl EncodeLabelSet, value: i64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(labels)?)
    }

    /// A sample of a gauge that is not an integer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn gauge_of(&mut self, labels: &impl EncodeLabelSet, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(labels)?)
    }

    /// A histogram, as [`Series::latency`] returns it.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn histogram(
        &mut self,
        labels: &impl EncodeLabelSet,
        read: (f64, u64, Vec<(f64, u64)>),
    ) -> fmt::Result {
        let (sum, count, buckets) = read;
        self.0.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn requests(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let table = telemetry.metrics.series.load();
    let all = || table.iter().filter(|series| series.is_used());
    let ended = || all().filter(|series| series.latency().1 > 0);

    let help = "Finished requests, by class of status";
    let mut family = Family::counters(encoder, "witgate_requests", help)?;
    for series in ended() {
        for (class, count) in CLASSES.iter().zip(series.classes()) {
            let [listener, route, upstream] = labels(series);
            family.counter(&[listener, route, upstream, ("status", *class)], count)?;
        }
    }
    let help = "From the complete request head to the last byte of the response";
    let mut family = Family::histograms(encoder, "witgate_request_duration_seconds", help)?;
    for series in ended() {
        family.histogram(&labels(series), series.latency())?;
    }
    let mut family = Family::counters(encoder, "witgate_request_body_bytes", "Bytes of request bodies")?;
    for series in ended() {
        family.counter(&labels(series), series.received())?;
    }
    let mut family = Family::counters(encoder, "witgate_response_body_bytes", "Bytes of response bodies")?;
    for series in ended() {
        family.counter(&labels(series), series.sent())?;
    }
    let help = "Requests in flight; route `-`: not yet routed";
    let mut family = Family::gauges(encoder, "witgate_requests_in_flight", help)?;
    for series in all().filter(|series| *series.upstream == *NONE) {
        let [listener, route, _] = labels(series);
        family.gauge(&[listener, route], series.in_flight())?;
    }
    Ok(())
}

fn labels(series: &Series) -> [(&'static str, &str); 3] {
    [("listener", &*series.listener), ("route", &*series.route), ("upstream", &*series.upstream)]
}

fn connections(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let table = telemetry.metrics.connections.load();
    let mut family = Family::counters(encoder, "witgate_connections_accepted", "Connections accepted")?;
    for (listener, connections) in table.iter() {
        family.counter(&[("listener", &**listener)], connections.accepted.get())?;
    }
    let mut family = Family::gauges(encoder, "witgate_connections_open", "Connections open")?;
    for (listener, connections) in table.iter() {
        family.gauge(&[("listener", &**listener)], connections.open.get())?;
    }
    Ok(())
}

fn decisions(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut family =
        Family::counters(encoder, "witgate_faults", "Requests the gateway itself ended, by code")?;
    for kind in FaultKind::ALL {
        family.counter(&[("code", kind.describe().code)], telemetry.metrics.faults[*kind as usize].get())?;
    }
    let table = telemetry.metrics.rate_limits.load();
    let mut family =
        Family::counters(encoder, "witgate_rate_limit_decisions", "Requests checked against rate limits")?;
    for (route, [limited, admitted]) in table.iter().map(|(route, counters)| (route, &**counters)) {
        family.counter(&[("route", &**route), ("decision", "limited")], limited.get())?;
        family.counter(&[("route", &**route), ("decision", "admitted")], admitted.get())?;
    }
    Ok(())
}

/// Reads one number about an endpoint.
type Number = fn(&EndpointStatus) -> usize;

/// The state of the upstreams of the snapshot in service.
fn upstreams(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let Some(snapshot) = telemetry.snapshot.load_full() else { return Ok(()) };
    let upstreams = upstream::status(&snapshot);
    let help = "Requests that wait for a connection";
    let mut family = Family::gauges(encoder, "witgate_upstream_pending_requests", help)?;
    for upstream in &upstreams {
        family.gauge(&[("upstream", upstream.name.as_str())], upstream.pending as i64)?;
    }
    let endpoints = || {
        upstreams
            .iter()
            .flat_map(|upstream| upstream.endpoints.iter().map(move |endpoint| (upstream, endpoint)))
    };
    let gauges: [(&str, &str, Number); 4] = [
        ("witgate_upstream_active_requests", "Requests in flight", |endpoint| endpoint.active),
        ("witgate_upstream_connections_open", "Connections open", |endpoint| endpoint.connections),
        ("witgate_upstream_connections_idle", "Idle connections", |endpoint| endpoint.idle),
        ("witgate_upstream_endpoint_weight", "Weight, and 0 for an endpoint that is drained", |endpoint| {
            if endpoint.availability == Availability::Drained { 0 } else { endpoint.weight as usize }
        }),
    ];
    for (name, help, read) in gauges {
        let mut family = Family::gauges(encoder, name, help)?;
        for (upstream, endpoint) in endpoints() {
            let labels = [("upstream", upstream.name.as_str()), ("endpoint", endpoint.address.as_str())];
            family.gauge(&labels, read(endpoint) as i64)?;
        }
    }
    balancing(&upstreams, encoder)?;
    breakers(&upstreams, encoder)?;
    load(&upstreams, encoder)?;
    tries(&snapshot, encoder)?;
    health(&upstreams, encoder)?;
    let help = "Changes of state of upstreams and endpoints; endpoint `-`: of the upstream as a whole";
    let mut family = Family::counters(encoder, "witgate_upstream_events", help)?;
    for (name, upstream) in &snapshot.upstreams {
        for (event, endpoint, count) in upstream.event_counts() {
            let endpoint = endpoint.as_deref().unwrap_or(NONE);
            family.counter(&[("upstream", &**name), ("endpoint", endpoint), ("event", event)], count)?;
        }
    }
    Ok(())
}

/// Which endpoints take requests.
fn balancing(upstreams: &[UpstreamStatus], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let help = "1 while so few endpoints are usable that health is ignored";
    let mut family = Family::gauges(encoder, "witgate_upstream_panic", help)?;
    for upstream in upstreams {
        family.gauge(&[("upstream", upstream.name.as_str())], i64::from(upstream.panics))?;
    }
    let help = "Endpoints, by whether they take requests, or why not";
    let mut family = Family::gauges(encoder, "witgate_upstream_endpoints", help)?;
    for upstream in upstreams {
        for availability in AVAILABILITIES {
            let count = upstream.endpoints.iter().filter(|endpoint| endpoint.availability == availability);
            let labels = [("upstream", upstream.name.as_str()), ("availability", availability.as_str())];
            family.gauge(&labels, count.count() as i64)?;
        }
    }
    let help = "Average latency as the balancing policy measures it: it rises at once and falls slowly";
    let mut family = Family::gauges(encoder, "witgate_upstream_latency_ewma_seconds", help)?;
    for upstream in upstreams {
        for endpoint in &upstream.endpoints {
            let Some(micros) = endpoint.latency_micros else { continue };
            let labels = [("upstream", upstream.name.as_str()), ("endpoint", endpoint.address.as_str())];
            family.gauge_of(&labels, micros as f64 / 1e6)?;
        }
    }
    Ok(())
}

/// Retries, hedges and mirrored copies.
fn tries(snapshot: &Snapshot, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let upstreams = || snapshot.upstreams.iter().map(|(name, upstream)| (&**name, upstream.tries()));
    let help = "Requests sent again, by reason and result";
    let mut family = Family::counters(encoder, "witgate_upstream_retries", help)?;
    for (name, tries) in upstreams() {
        for (reason, outcome, count) in tries.retries() {
            family.counter(&[("upstream", name), ("reason", reason), ("outcome", outcome)], count)?;
        }
    }
    let help = "Slow requests that were sent to another endpoint too, by which endpoint responded first";
    let mut family = Family::counters(encoder, "witgate_upstream_hedges", help)?;
    for (name, tries) in upstreams() {
        for (outcome, count) in tries.hedges() {
            family.counter(&[("upstream", name), ("outcome", outcome)], count)?;
        }
    }
    let help = "Mirrored copies of other upstreams' requests, by result";
    let mut family = Family::counters(encoder, "witgate_upstream_mirrored_requests", help)?;
    for (name, tries) in upstreams() {
        for (outcome, count) in tries.copies() {
            family.counter(&[("upstream", name), ("outcome", outcome)], count)?;
        }
    }
    let help = "Requests whose deadline passed before the response head";
    let mut family = Family::counters(encoder, "witgate_upstream_deadlines_exceeded", help)?;
    for (name, tries) in upstreams() {
        family.counter(&[("upstream", name)], tries.deadlines())?;
    }
    Ok(())
}

fn breakers(upstreams: &[UpstreamStatus], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let help = "1 for the state of the circuit breaker, 0 for the others; endpoint `-`: the upstream's own";
    let mut family = Family::gauges(encoder, "witgate_upstream_breaker", help)?;
    for upstream in upstreams {
        let own = upstream.breaker.map(|breaker| (NONE, breaker));
        let endpoints = upstream.endpoints.iter().map(|endpoint| (&*endpoint.address, endpoint.breaker));
        for (endpoint, breaker) in own.into_iter().chain(endpoints) {
            for (state, word) in BREAKER_STATES {
                let labels = [("upstream", &*upstream.name), ("endpoint", endpoint), ("state", word)];
                family.gauge(&labels, i64::from(breaker == state))?;
            }
        }
    }
    Ok(())
}

/// Reads one number about the requests in flight of an upstream; `None` if it has no such limit.
type LoadNumber = fn(&LoadStatus) -> Option<usize>;

/// Limits on requests in flight, and their effects.
fn load(upstreams: &[UpstreamStatus], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let gauges: [(&str, &str, LoadNumber); 3] = [
        ("witgate_upstream_limited_requests", "Requests in flight, if they are limited", |load| {
            Some(load.requests)
        }),
        ("witgate_upstream_queued_requests", "Requests that wait for a permit", |load| Some(load.waiting)),
        ("witgate_upstream_concurrency_limit", "The adaptive limit on requests in flight", |load| {
            load.concurrency
        }),
    ];
    for (name, help, read) in gauges {
        let mut family = Family::gauges(encoder, name, help)?;
        for upstream in upstreams {
            if let Some(number) = upstream.load.as_ref().and_then(read) {
                family.gauge(&[("upstream", upstream.name.as_str())], number as i64)?;
            }
        }
    }
    let help = "Requests dropped because the upstream was at its limits";
    let mut family = Family::counters(encoder, "witgate_upstream_shed_requests", help)?;
    for upstream in upstreams {
        family.counter(&[("upstream", upstream.name.as_str())], upstream.shed)?;
    }
    let help = "Requests that the upstream could not take, by the fallback that was used";
    let mut family = Family::counters(encoder, "witgate_upstream_fallbacks", help)?;
    for upstream in upstreams {
        for (fallback, count) in &upstream.fallbacks {
            family.counter(&[("upstream", &*upstream.name), ("fallback", &**fallback)], *count)?;
        }
    }
    Ok(())
}

/// The results of active checks and of outlier detection.
fn health(upstreams: &[UpstreamStatus], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let endpoints = || {
        upstreams.iter().flat_map(|upstream| {
            let labels = |endpoint| (("upstream", upstream.name.as_str()), ("endpoint", address(endpoint)));
            upstream.endpoints.iter().map(move |endpoint| (labels(endpoint), endpoint))
        })
    };
    let help = "1 for the endpoint's state by active checks, 0 for the others; unknown: there are no checks";
    let mut family = Family::gauges(encoder, "witgate_upstream_health", help)?;
    for ((upstream, address), endpoint) in endpoints() {
        for (state, word) in HEALTH_STATES {
            family.gauge(&[upstream, address, ("state", word)], i64::from(endpoint.health == state))?;
        }
    }
    let help = "Active checks, by result";
    let mut family = Family::counters(encoder, "witgate_upstream_health_checks", help)?;
    for ((upstream, address), endpoint) in endpoints() {
        family.counter(&[upstream, address, ("result", "success")], endpoint.checks_succeeded)?;
        family.counter(&[upstream, address, ("result", "failure")], endpoint.checks_failed)?;
    }
    let help = "1 while the endpoint is ejected by outlier ejection";
    let mut family = Family::gauges(encoder, "witgate_upstream_ejected", help)?;
    for ((upstream, address), endpoint) in endpoints() {
        family.gauge(&[upstream, address], i64::from(endpoint.ejected_for.is_some()))?;
    }
    let help = "Requests of an endpoint, by whether they succeeded or failed (faults and statuses from 500)";
    let mut family = Family::counters(encoder, "witgate_upstream_requests", help)?;
    for ((upstream, address), endpoint) in endpoints() {
        family.counter(&[upstream, address, ("result", "success")], endpoint.requests_succeeded)?;
        family.counter(&[upstream, address, ("result", "failure")], endpoint.requests_failed)?;
    }
    Ok(())
}

fn address(endpoint: &EndpointStatus) -> &str {
    endpoint.address.as_str()
}

fn process(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let [failed, succeeded] = &telemetry.metrics.reloads;
    let mut family =
        Family::counters(encoder, "witgate_reloads", "New configurations and plugins, by outcome")?;
    family.counter(&[("result", "ok")], succeeded.get())?;
    family.counter(&[("result", "failed")], failed.get())?;

    let version = telemetry.snapshot.load().as_ref().map_or(0, |snapshot| snapshot.version);
    let mut family =
        Family::gauges(encoder, "witgate_snapshot_version", "Version of the snapshot in service")?;
    family.gauge(&NO_LABELS, version as i64)?;

    let help = "Log lines that were dropped because their queue was full, or could not be written";
    let mut family = Family::counters(encoder, "witgate_log_lines_lost", help)?;
    let unwritten = telemetry.access.load().as_ref().map_or(0, |queue| queue.failed());
    family.counter(&[("log", "access"), ("reason", "queue-full")], telemetry.access_dropped.get())?;
    family.counter(&[("log", "access"), ("reason", "write-failed")], unwritten)?;
    let unwritten = telemetry.log.as_ref().map_or(0, |queue| queue.failed());
    family.counter(&[("log", "gateway"), ("reason", "queue-full")], telemetry.log_dropped.get())?;
    family.counter(&[("log", "gateway"), ("reason", "write-failed")], unwritten)?;

    let spans = &telemetry.spans;
    let mut family = Family::counters(encoder, "witgate_spans", "Spans of sampled requests, by result")?;
    family.counter(&[("outcome", "sent")], spans.sent.get())?;
    family.counter(&[("outcome", "queue-full")], spans.dropped.get())?;
    family.counter(&[("outcome", "send-failed")], spans.failed.get())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn upstreams_are_shown_as_they_stand() {
        let text = "[telemetry]\naccess_log = \"off\"\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
                    [upstreams.users]\nendpoints = [\"127.0.0.1:1\"]\n";
        let config =
            witgate_config::parse_str(text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
        let snapshot = Snapshot::build(Arc::new(config.config), Default::default(), None);
        let telemetry = Telemetry::new();
        telemetry.follow(Arc::new(snapshot.unwrap_or_else(|problems| panic!("{problems:?}"))));
        let metrics = telemetry.metrics().expose();
        let labels = r#"upstream="users",endpoint="127.0.0.1:1""#;
        for line in [
            format!("witgate_upstream_active_requests{{{labels}}} 0"),
            format!("witgate_upstream_breaker{{{labels},state=\"closed\"}} 1"),
            format!("witgate_upstream_breaker{{{labels},state=\"open\"}} 0"),
            format!("witgate_upstream_endpoint_weight{{{labels}}} 1"),
            "witgate_upstream_endpoints{upstream=\"users\",availability=\"available\"} 1".to_owned(),
            "witgate_upstream_panic{upstream=\"users\"} 0".to_owned(),
            format!("witgate_upstream_health{{{labels},state=\"unknown\"}} 1"),
            format!("witgate_upstream_health_checks_total{{{labels},result=\"failure\"}} 0"),
            format!("witgate_upstream_ejected{{{labels}}} 0"),
            format!("witgate_upstream_requests_total{{{labels},result=\"success\"}} 0"),
            "witgate_snapshot_version{} 1".to_owned(),
        ] {
            assert!(metrics.lines().any(|written| written == line), "{line}\n{metrics}");
        }
    }
}
