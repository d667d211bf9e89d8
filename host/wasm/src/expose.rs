//! The metrics of bindings for `/metrics`.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use witgate_exchange::contracts::Phase;
use witgate_exchange::family::Family;

use crate::meter::{BOUNDS, Distribution, FAILURES, Kind, MICROSECONDS, MeterTotals};
use crate::plugin::Loaded;
use crate::quarantine::Health;
use crate::runtime::Watched;

/// Collects the metrics of every binding in service.
pub(crate) struct Bindings(pub(crate) Arc<Watched>);

impl fmt::Debug for Bindings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bindings")
    }
}

type Rows = Vec<(Arc<Loaded>, MeterTotals)>;

impl Collector for Bindings {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let read = |loaded: Arc<Loaded>| {
            let reading = loaded.meter().read();
            (loaded, reading)
        };
        let rows: Rows = self.0.all().into_iter().map(read).collect();
        calls(&rows, &mut encoder)?;
        counters(&rows, &mut encoder)?;
        gauges(&rows, &mut encoder)?;
        stores(&self.0, &mut encoder)?;
        custom(&rows, &mut encoder)
    }
}

fn calls(rows: &Rows, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let help = "Calls of plugins that ended, by phase";
    let mut family = Family::counters(encoder, "witgate_plugin_calls", help)?;
    for (loaded, reading) in rows {
        for (phase, count) in Phase::ALL.iter().zip(reading.calls).filter(|(_, count)| *count > 0) {
            family.counter(&[("binding", &*loaded.name), ("phase", phase.as_str())], count)?;
        }
    }
    let help = "Calls of plugins that returned no result, by kind";
    let mut family = Family::counters(encoder, "witgate_plugin_failures", help)?;
    for (loaded, reading) in rows {
        for (failure, count) in FAILURES.iter().zip(reading.failures) {
            family.counter(&[("binding", &*loaded.name), ("kind", failure.as_str())], count)?;
        }
    }
    let help = "Time of plugin calls";
    let mut family = Family::histograms(encoder, "witgate_plugin_call_microseconds", help)?;
    for (loaded, reading) in rows {
        let bounds = MICROSECONDS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(reading.times).collect();
        let count = reading.times.iter().sum();
        family.histogram(&[("binding", &*loaded.name)], (reading.microseconds as f64, count, buckets))?;
    }
    Ok(())
}

/// A counter: its name, its help text, and the number of the totals that it shows.
type Column = (&'static str, &'static str, fn(&MeterTotals) -> u64);

const COUNTERS: [Column; 10] = [
    ("witgate_plugin_answers_remembered", "Remembered results that were used instead of a call", |reading| {
        reading.answers_again
    }),
    ("witgate_plugin_denials", "Requests that plugins refused", |reading| reading.refusals),
    ("witgate_plugin_abandoned", "Calls whose client disconnected", |reading| reading.abandoned),
    ("witgate_plugin_instances_made", "Instances made", |reading| reading.made),
    ("witgate_plugin_grants_refused", "Uses of objects that are not granted", |reading| {
        reading.grants_refused
    }),
    (
        "witgate_plugin_exchanges_unobserved",
        "Finished exchanges that `observe` did not see: its queue was full, or its call failed",
        |reading| reading.unobserved,
    ),
    ("witgate_plugin_log_lines_dropped", "Log lines dropped by the rate limit", |reading| {
        reading.log_lines_dropped
    }),
    ("witgate_plugin_metrics_dropped", "Values dropped because their name could not be used", |reading| {
        reading.metrics_dropped
    }),
    ("witgate_plugin_quarantines", "Times a binding was put in quarantine", |reading| reading.quarantines),
    ("witgate_plugin_reverts", "Times a new version was to be reverted", |reading| reading.reverts),
];

fn counters(rows: &Rows, encoder: &mut DescriptorEncoder) -> fmt::Result {
    for (name, help, column) in COUNTERS {
        let mut family = Family::counters(encoder, name, help)?;
        for (loaded, reading) in rows {
            family.counter(&[("binding", &*loaded.name)], column(reading))?;
        }
    }
    Ok(())
}

fn gauges(rows: &Rows, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut family = Family::gauges(encoder, "witgate_plugin_instances", "Instances that exist")?;
    for (loaded, reading) in rows {
        family.gauge(&[("binding", &*loaded.name)], saturated(reading.live))?;
    }
    let help = "The most memory one instance had, in bytes";
    let mut family = Family::gauges(encoder, "witgate_plugin_memory_high_bytes", help)?;
    for (loaded, reading) in rows {
        family.gauge(&[("binding", &*loaded.name)], saturated(reading.memory_high))?;
    }
    let help = "0: in service, 1: in quarantine, 2: being probed";
    let mut family = Family::gauges(encoder, "witgate_plugin_quarantine", help)?;
    for (loaded, _) in rows {
        let state = match loaded.health() {
            Health::Serving => 0,
            Health::Resting => 1,
            Health::Probing => 2,
        };
        family.gauge(&[("binding", &*loaded.name)], state)?;
    }
    Ok(())
}

fn stores(watched: &Watched, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut family = Family::gauges(encoder, "witgate_plugin_store_bytes", "Bytes in the store of a plugin")?;
    for (plugin, bytes) in watched.stored() {
        family.gauge(&[("plugin", plugin)], saturated(bytes as u64))?;
    }
    Ok(())
}

fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The metrics that plugins define: one family for each kind.
fn custom(rows: &Rows, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut family = Family::counters(encoder, "witgate_plugin_custom", "Counters of plugins")?;
    each(rows, Kind::Counter, |binding, name, value, _| {
        family.counter(&[("binding", binding), ("name", name)], value as u64)
    })?;
    let mut family = Family::gauges(encoder, "witgate_plugin_custom_gauge", "Gauges of plugins")?;
    each(rows, Kind::Gauge, |binding, name, value, _| {
        family.gauge_of(&[("binding", binding), ("name", name)], value)
    })?;
    let mut family = Family::histograms(encoder, "witgate_plugin_custom_histogram", "Histograms of plugins")?;
    each(rows, Kind::Histogram, |binding, name, sum, distribution| {
        let counts = distribution.map(Distribution::counts).unwrap_or_default();
        let buckets: Vec<(f64, u64)> = BOUNDS.iter().copied().chain([f64::INFINITY]).zip(counts).collect();
        family.histogram(&[("binding", binding), ("name", name)], (sum, counts.iter().sum(), buckets))
    })
}

/// Every number of one kind.
fn each(
    rows: &Rows,
    kind: Kind,
    mut see: impl FnMut(&str, &str, f64, Option<&Distribution>) -> fmt::Result,
) -> fmt::Result {
    let mut result = Ok(());
    for (loaded, _) in rows {
        loaded.meter().names().read(|name, found, value, distribution| {
            if found == kind && result.is_ok() {
                result = see(&loaded.name, name, value, distribution);
            }
        });
    }
    result
}
