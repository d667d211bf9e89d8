//! Numbers: counted on each core, summed when somebody reads them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;

use crate::fault::FaultKind;
use crate::telemetry::per_core::PerCore;

/// The content type of [`Metrics::expose`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What stands in a label where there is nothing to say: no route matched, no upstream was asked.
pub const NONE: &str = "-";

/// What stands for every route and upstream past [`SERIES`].
const OTHERS: &str = "(others)";

/// Most combinations of listener, route and upstream that are counted apart. They live as long as the process, so a
/// configuration that renames its routes at every reload must not grow them without end.
const SERIES: usize = 4096;

/// Upper bounds of the latency buckets, in seconds.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Durations(PerCore<DurationCells>);

#[derive(Debug, Default)]
struct DurationCells {
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    /// Counts one.
    pub fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket =
            LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(LATENCY_BOUNDS.len());
        let cells = self.0.mine();
        cells.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        cells.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The sum in seconds, the count, and the buckets by upper bound.
    pub fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = LATENCY_BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .enumerate()
            .map(|(index, bound)| (bound, self.0.sum(|cells| cells.buckets[index].load(Ordering::Relaxed))))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let nanoseconds = self.0.sum(|cells| cells.nanoseconds.load(Ordering::Relaxed));
        (nanoseconds as f64 / 1e9, count, buckets)
    }
}

/// A counter that may be used from every core.
#[derive(Debug, Default)]
pub struct Counter(PerCore<AtomicU64>);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts more.
    pub fn add(&self, more: u64) {
        self.0.mine().fetch_add(more, Ordering::Relaxed);
    }

    /// The sum over all cores.
    pub fn get(&self) -> u64 {
        self.0.sum(|cell| cell.load(Ordering::Relaxed))
    }
}

/// A gauge that goes up and down, on whatever core.
#[derive(Debug, Default)]
pub struct Gauge(PerCore<AtomicI64>);

impl Gauge {
    /// Adds, or takes away.
    pub fn add(&self, more: i64) {
        self.0.mine().fetch_add(more, Ordering::Relaxed);
    }

    /// The sum over all cores.
    pub fn get(&self) -> i64 {
        self.0.iter().map(|cell| cell.load(Ordering::Relaxed)).sum()
    }
}

/// What is counted for one combination of listener, route and upstream.
#[derive(Debug)]
pub struct Series {
    pub(super) listener: Box<str>,
    pub(super) route: Box<str>,
    pub(super) upstream: Box<str>,
    /// By class: 1xx to 5xx.
    pub(super) classes: [Counter; 5],
    pub(super) latency: Durations,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) in_flight: Gauge,
}

impl Series {
    fn new(listener: &str, route: &str, upstream: &str) -> Self {
        Series {
            listener: listener.into(),
            route: route.into(),
            upstream: upstream.into(),
            classes: Default::default(),
            latency: Durations::default(),
            received: Counter::default(),
            sent: Counter::default(),
            in_flight: Gauge::default(),
        }
    }

    /// Counts one request that is over.
    pub(super) fn count(&self, status: StatusCode, time: Duration, received: u64, sent: u64) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class].increment();
        self.latency.observe(time);
        self.received.add(received);
        self.sent.add(sent);
    }
}

/// An open connection of a listener.
#[derive(Debug)]
pub struct OpenConnection(Arc<Connections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.add(-1);
    }
}

/// Connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Connections {
    pub(super) open: Gauge,
    pub(super) accepted: Counter,
}

/// A table that is read on the path without a lock and grows rarely, behind one.
type Table<V> = ArcSwap<Named<V>>;

/// Values by names of the configuration. Nobody else chooses the names, so hashing them need not withstand an attacker.
pub(super) type Named<V> = HashMap<Box<str>, V, BuildHasherDefault<NameHasher>>;

/// FNV-1a with 64 bits.
pub(super) struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        NameHasher(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Everything that is counted.
#[derive(Default)]
pub struct Metrics {
    /// By route; the few combinations with listeners and upstreams are walked.
    pub(super) series: Table<Vec<Arc<Series>>>,
    pub(super) connections: Table<Arc<Connections>>,
    pub(super) rate_limits: Table<Arc<[Counter; 2]>>,
    pub(super) faults: [Counter; FaultKind::ALL.len()],
    pub(super) reloads: [Counter; 2],
    growing: Mutex<()>,
    registry: Mutex<Registry>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Adds metrics to what [`Metrics::expose`] writes. Names begin with `witgate_`; a family belongs to one collector.
    pub fn register(&self, collector: Box<dyn Collector>) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(collector);
    }

    /// Everything, as OpenMetrics text ([`CONTENT_TYPE`]).
    pub fn expose(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes everything");
        text
    }

    /// A request of a route is in flight from now on (1), or no longer (-1).
    pub(crate) fn in_flight(&self, listener: &str, route: &str, change: i64) {
        self.with(listener, route, NONE, |series| series.in_flight.add(change));
    }

    /// A connection was accepted; it counts as open until the guard is dropped.
    pub fn connection(&self, listener: &str) -> OpenConnection {
        let connections = self.entry(&self.connections, listener);
        connections.accepted.increment();
        connections.open.add(1);
        OpenConnection(connections)
    }

    /// A request of a route was held against its rate limits.
    pub fn rate_limit(&self, route: &str, admitted: bool) {
        self.entry(&self.rate_limits, route)[usize::from(admitted)].increment();
    }

    /// A new configuration was put in service, or refused.
    pub fn reload(&self, succeeded: bool) {
        self.reloads[usize::from(succeeded)].increment();
    }

    pub(super) fn fault(&self, kind: FaultKind) {
        self.faults[kind as usize].increment();
    }

    /// Uses the series of a combination. It is borrowed rather than cloned: the count of references would be the one
    /// thing in it that all cores write.
    pub(super) fn with<R>(
        &self,
        listener: &str,
        route: &str,
        upstream: &str,
        work: impl FnOnce(&Series) -> R,
    ) -> R {
        if let Some(series) = find(&self.series.load(), listener, route, upstream) {
            return work(series);
        }
        work(&self.grow(listener, route, upstream))
    }

    /// A series that was not there. Happens once for each, behind a lock.
    fn grow(&self, listener: &str, route: &str, upstream: &str) -> Arc<Series> {
        let _guard = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.series.load();
        let full = table.values().map(Vec::len).sum::<usize>() >= SERIES;
        let (route, upstream) = if full { (OTHERS, OTHERS) } else { (route, upstream) };
        if let Some(series) = find(&table, listener, route, upstream) {
            return Arc::clone(series);
        }
        let series = Arc::new(Series::new(listener, route, upstream));
        let mut grown = Named::clone(&table);
        grown.entry(route.into()).or_default().push(Arc::clone(&series));
        self.series.store(Arc::new(grown));
        series
    }

    /// The entry of a table whose keys are names of the configuration.
    fn entry<V: Default>(&self, table: &Table<Arc<V>>, name: &str) -> Arc<V> {
        if let Some(entry) = table.load().get(name) {
            return Arc::clone(entry);
        }
        let _guard = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = table.load();
        if let Some(entry) = current.get(name) {
            return Arc::clone(entry);
        }
        let name = if current.len() < SERIES { name } else { OTHERS };
        let mut grown = Named::clone(&current);
        let entry = Arc::clone(grown.entry(name.into()).or_default());
        table.store(Arc::new(grown));
        entry
    }
}

fn find<'a>(
    table: &'a Named<Vec<Arc<Series>>>,
    listener: &str,
    route: &str,
    upstream: &str,
) -> Option<&'a Arc<Series>> {
    let same = |series: &&Arc<Series>| *series.listener == *listener && *series.upstream == *upstream;
    table.get(route)?.iter().find(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_counted_apart_up_to_a_bound() {
        let metrics = Metrics::default();
        let count = |route: &str, upstream: &str| {
            metrics.with("web", route, upstream, |series| {
                series.sent.increment();
                (series.sent.get(), series.route.to_string())
            })
        };
        assert_eq!(count("users", "u1"), (1, "users".to_owned()));
        assert_eq!(count("users", "u1"), (2, "users".to_owned()));
        assert_eq!(count("users", "u2"), (1, "users".to_owned()));
        for number in 0..SERIES {
            count(&number.to_string(), "u");
        }
        assert_eq!(count("one more", "u").1, OTHERS);
        assert!(metrics.series.load().values().map(Vec::len).sum::<usize>() <= SERIES + 1);
        assert_eq!(count("users", "u1").0, 3, "what was there stays");
    }

    #[test]
    fn connections_are_open_until_their_guard_is_dropped() {
        let metrics = Metrics::default();
        let guard = metrics.connection("web");
        let read = || {
            let connections = metrics.entry(&metrics.connections, "web");
            (connections.open.get(), connections.accepted.get())
        };
        assert_eq!(read(), (1, 1));
        drop(guard);
        assert_eq!(read(), (0, 1));
    }

    #[test]
    fn durations_fall_into_buckets() {
        let durations = Durations::default();
        durations.observe(Duration::from_micros(400));
        durations.observe(Duration::from_secs(60));
        let (sum, count, buckets) = durations.read();
        assert!((sum - 60.0004).abs() < 1e-6);
        assert_eq!(count, 2);
        assert_eq!(buckets[0], (0.0005, 1));
        assert_eq!(buckets[LATENCY_BOUNDS.len()].1, 1);
    }
}
