//! What the upstreams contribute to `/metrics`.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use witgate_exchange::family::Family;
use witgate_telemetry::metrics::NONE;

use crate::discovery::SinkStatus;
use crate::{
    Availability, BreakerState, EndpointStatus, HealthState, LoadStatus, UpstreamStatus, Upstreams, status,
};

/// The states of a circuit breaker, with their label values.
const BREAKER_STATES: [(BreakerState, &str); 3] =
    [(BreakerState::Closed, "closed"), (BreakerState::Open, "open"), (BreakerState::HalfOpen, "half-open")];

/// Every availability of an endpoint.
const AVAILABILITIES: [Availability; 7] = [
    Availability::Available,
    Availability::Probing,
    Availability::Unhealthy,
    Availability::Resting,
    Availability::Drained,
    Availability::NotReady,
    Availability::Stale,
];

/// The states of active health checks, with their label values.
const HEALTH_STATES: [(HealthState, &str); 3] = [
    (HealthState::Unknown, "unknown"),
    (HealthState::Healthy, "healthy"),
    (HealthState::Unhealthy, "unhealthy"),
];

/// Reads one number about an endpoint.
type Number = fn(&EndpointStatus) -> usize;

/// Writes the state of the upstreams of a snapshot.
pub fn encode(by_name: &Upstreams, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let upstreams = status(by_name);
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
    tries(by_name, encoder)?;
    health(&upstreams, encoder)?;
    sources(&upstreams, encoder)?;
    latencies(&upstreams, encoder)?;
    let help = "Changes of state of upstreams and endpoints; endpoint `-`: of the upstream as a whole";
    let mut family = Family::counters(encoder, "witgate_upstream_events", help)?;
    for (name, upstream) in by_name.iter() {
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
fn tries(by_name: &Upstreams, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let upstreams = || by_name.iter().map(|(name, upstream)| (&**name, upstream.tries()));
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

/// Reads one number about a source.
type SourceNumber = fn(&SinkStatus) -> f64;

/// The sources of endpoints.
fn sources(upstreams: &[UpstreamStatus], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let gauges: [(&str, &str, SourceNumber); 4] = [
        (
            "witgate_upstream_source_up",
            "1 if the latest set of the source was good, 0 if it failed",
            |source| f64::from(u8::from(!source.failing)),
        ),
        (
            "witgate_upstream_source_age_seconds",
            "Time since the source last confirmed the endpoints",
            |source| source.age as f64 / 1e3,
        ),
        ("witgate_upstream_source_endpoints", "Endpoints in the last good set of the source", |source| {
            source.endpoints as f64
        }),
        (
            "witgate_upstream_source_refused_endpoints",
            "Endpoints of the source that are left out, because they are not allowed or malformed",
            |source| source.left_out as f64,
        ),
    ];
    let discovered = || upstreams.iter().filter_map(|upstream| Some((upstream, upstream.source.as_ref()?)));
    for (name, help, read) in gauges {
        let mut family = Family::gauges(encoder, name, help)?;
        for (upstream, source) in discovered() {
            let labels = [("upstream", upstream.name.as_str()), ("source", source.kind.as_str())];
            family.gauge_of(&labels, read(source))?;
        }
    }
    let help = "Changes of the last good set of the source";
    let mut family = Family::counters(encoder, "witgate_upstream_source_changes", help)?;
    for (upstream, source) in discovered() {
        let labels = [("upstream", upstream.name.as_str()), ("source", source.kind.as_str())];
        family.counter(&labels, source.changes)?;
    }
    Ok(())
}

/// Upstreams with more endpoints have no latencies of single endpoints in the metrics.
const MOST_SERIES: usize = 1000;

/// The times to the response head.
fn latencies(upstreams: &[UpstreamStatus], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let help = "Time to the response head of recent requests, by quantile; absent for upstreams with more than 1000 endpoints";
    let mut family = Family::gauges(encoder, "witgate_upstream_latency_seconds", help)?;
    for upstream in upstreams.iter().filter(|upstream| upstream.endpoints.len() <= MOST_SERIES) {
        for endpoint in &upstream.endpoints {
            let quantiles = [("0.5", endpoint.p50_micros), ("0.95", endpoint.p95_micros)];
            for (quantile, micros) in quantiles {
                let Some(micros) = micros else { continue };
                let labels =
                    [("upstream", &*upstream.name), ("endpoint", address(endpoint)), ("quantile", quantile)];
                family.gauge_of(&labels, micros as f64 / 1e6)?;
            }
        }
    }
    Ok(())
}

fn address(endpoint: &EndpointStatus) -> &str {
    endpoint.address.as_str()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use witgate_telemetry::Telemetry;

    use crate::testing::Snapshot;

    #[test]
    fn upstreams_are_shown_as_they_stand() {
        let text = "[telemetry]\naccess_log = \"off\"\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
                    [upstreams.users]\nendpoints = [\"127.0.0.1:1\"]\n";
        let config =
            witgate_config::parse_str(text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
        let snapshot = Snapshot::build(config.config, None);
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
