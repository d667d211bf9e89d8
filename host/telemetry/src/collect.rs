//! The gateway's own metrics.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use witgate_exchange::family::Family;
use witgate_exchange::fault::FaultKind;

use crate::Telemetry;
use crate::metrics::{NONE, Series};

/// The label values of the classes of [`Series`].
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

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
        if let Some(in_service) = telemetry.in_service() {
            in_service.encode(&mut encoder)?;
        }
        process(&telemetry, &mut encoder)
    }
}

fn requests(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let table = telemetry.metrics.series.load();
    let names = telemetry.metrics.names.load();
    let is_shown = |series: &Series| names.as_ref().is_none_or(|names| names.has_series(series));
    let all = || table.iter().filter(|series| series.is_used() && is_shown(series));
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
    let names = telemetry.metrics.names.load();
    let all = || {
        table.iter().filter(|(listener, connections)| {
            names.as_ref().is_none_or(|names| names.has_connections(listener, connections))
        })
    };
    let mut family = Family::counters(encoder, "witgate_connections_accepted", "Connections accepted")?;
    for (listener, connections) in all() {
        family.counter(&[("listener", &**listener)], connections.accepted.get())?;
    }
    let mut family = Family::gauges(encoder, "witgate_connections_open", "Connections open")?;
    for (listener, connections) in all() {
        family.gauge(&[("listener", &**listener)], connections.open.get())?;
    }
    Ok(())
}

fn decisions(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut family =
        Family::counters(encoder, "witgate_faults", "Requests the gateway itself ended, by code")?;
    for kind in FaultKind::ALL {
        family
            .counter(&[("code", kind.describe().code)], telemetry.metrics.faults.0[*kind as usize].get())?;
    }
    let names = telemetry.metrics.names.load();
    let is_shown = |route: &str| names.as_ref().is_none_or(|names| names.has_route(route));
    let table = telemetry.metrics.injected.load();
    let help = "Requests to which the filter `fault` did something on purpose";
    let mut family = Family::counters(encoder, "witgate_injected_faults", help)?;
    let shown = table.iter().filter(|(route, _)| is_shown(route));
    for (route, [delay, abort]) in shown.map(|(route, counters)| (route, &**counters)) {
        family.counter(&[("route", &**route), ("kind", "delay")], delay.get())?;
        family.counter(&[("route", &**route), ("kind", "abort")], abort.get())?;
    }
    let table = telemetry.metrics.rate_limits.load();
    let mut family =
        Family::counters(encoder, "witgate_rate_limit_decisions", "Requests checked against rate limits")?;
    let shown = table.iter().filter(|(route, _)| is_shown(route));
    for (route, [limited, admitted]) in shown.map(|(route, counters)| (route, &**counters)) {
        family.counter(&[("route", &**route), ("decision", "limited")], limited.get())?;
        family.counter(&[("route", &**route), ("decision", "admitted")], admitted.get())?;
    }
    Ok(())
}

fn process(telemetry: &Telemetry, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let [failed, succeeded] = &telemetry.metrics.reloads;
    let mut family =
        Family::counters(encoder, "witgate_reloads", "New configurations and plugins, by outcome")?;
    family.counter(&[("result", "ok")], succeeded.get())?;
    family.counter(&[("result", "failed")], failed.get())?;

    let version = telemetry.in_service().map_or(0, |in_service| in_service.version());
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
