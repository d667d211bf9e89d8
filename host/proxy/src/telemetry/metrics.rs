//! Numbers: counted on each core, summed when somebody reads them.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;

use crate::fault::FaultKind;
use crate::names::Named;
use crate::telemetry::per_core::{self, PerCore};

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
        per_core::add(self.0.mine(), more);
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
        per_core::add_signed(self.0.mine(), more);
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
    cells: PerCore<Cells>,
}

/// What one core counts, side by side: a request that is over touches two or three cache lines.
#[derive(Debug, Default)]
struct Cells {
    /// By class: 1xx to 5xx.
    classes: [AtomicU64; 5],
    received: AtomicU64,
    sent: AtomicU64,
    in_flight: AtomicI64,
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
}

impl Series {
    fn new(listener: &str, route: &str, upstream: &str) -> Self {
        Series {
            listener: listener.into(),
            route: route.into(),
            upstream: upstream.into(),
            cells: PerCore::default(),
        }
    }

    fn count(&self, ended: &Ended) {
        let cells = self.cells.mine();
        let class = usize::from(ended.status.as_u16() / 100).clamp(1, 5) - 1;
        per_core::add(&cells.classes[class], 1);
        let seconds = ended.time.as_secs_f64();
        let bucket =
            LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(LATENCY_BOUNDS.len());
        per_core::add(&cells.buckets[bucket], 1);
        per_core::add(&cells.nanoseconds, ended.time.as_nanos() as u64);
        if ended.received > 0 {
            per_core::add(&cells.received, ended.received);
        }
        per_core::add(&cells.sent, ended.sent);
    }

    fn add_in_flight(&self, change: i64) {
        per_core::add_signed(&self.cells.mine().in_flight, change);
    }

    fn sum(&self, read: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.cells.sum(|cells| read(cells).load(Ordering::Relaxed))
    }

    /// Requests that are over, by class: 1xx to 5xx.
    pub(super) fn classes(&self) -> [u64; 5] {
        std::array::from_fn(|class| self.sum(|cells| &cells.classes[class]))
    }

    /// Their time: the sum in seconds, the count, and the buckets by upper bound.
    pub(super) fn latency(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = LATENCY_BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .enumerate()
            .map(|(index, bound)| (bound, self.sum(|cells| &cells.buckets[index])))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.sum(|cells| &cells.nanoseconds) as f64 / 1e9, count, buckets)
    }

    /// Bytes of request bodies.
    pub(super) fn received(&self) -> u64 {
        self.sum(|cells| &cells.received)
    }

    /// Bytes of response bodies.
    pub(super) fn sent(&self) -> u64 {
        self.sum(|cells| &cells.sent)
    }

    /// Requests whose response is not through.
    pub(super) fn in_flight(&self) -> i64 {
        self.cells.iter().map(|cells| cells.in_flight.load(Ordering::Relaxed)).sum()
    }
}

/// The series that was used last, found again without its names being hashed: the requests of a connection mostly take
/// one way. Names are told apart by where they are kept, and kept here, so that none can take the place of another.
#[derive(Debug, Default)]
pub(crate) struct LastSeries(RefCell<Option<Known>>);

#[derive(Debug)]
struct Known {
    route: Arc<str>,
    upstream: Option<Arc<str>>,
    series: Arc<Series>,
}

impl LastSeries {
    /// Counts one request that is over.
    pub(super) fn count(&self, metrics: &Metrics, way: &Way<'_>, ended: &Ended) {
        self.with(metrics, way, |series| series.count(ended));
    }

    /// A request of a route is in flight from now on (1), or no longer (-1).
    pub(crate) fn in_flight(&self, metrics: &Metrics, listener: &str, route: &Arc<str>, change: i64) {
        let way = Way { listener, route, upstream: None };
        self.with(metrics, &way, |series| series.add_in_flight(change));
    }

    fn with(&self, metrics: &Metrics, way: &Way<'_>, work: impl FnOnce(&Series)) {
        if let Some(known) = &*self.0.borrow()
            && known.is(way)
        {
            return work(&known.series);
        }
        let series = metrics.series_of(way);
        work(&series);
        let (route, upstream) = (Arc::clone(way.route), way.upstream.cloned());
        self.0.replace(Some(Known { route, upstream, series }));
    }
}

impl Known {
    fn is(&self, way: &Way<'_>) -> bool {
        let same = match (&self.upstream, way.upstream) {
            (Some(known), Some(upstream)) => Arc::ptr_eq(known, upstream),
            (known, upstream) => known.is_none() && upstream.is_none(),
        };
        same && Arc::ptr_eq(&self.route, way.route)
    }
}

/// Which way a request took.
pub(super) struct Way<'a> {
    pub(super) listener: &'a str,
    /// Empty: none was found.
    pub(super) route: &'a Arc<str>,
    pub(super) upstream: Option<&'a Arc<str>>,
}

/// What there is to count of a request that is over.
pub(super) struct Ended {
    pub(super) status: StatusCode,
    /// From its head to the end of its answer.
    pub(super) time: Duration,
    /// Bytes of its body.
    pub(super) received: u64,
    /// Bytes of its answer's body.
    pub(super) sent: u64,
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
type Table<V> = ArcSwap<Named<Box<str>, V>>;

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

    /// A connection was accepted; it counts as open until the guard is dropped.
    pub fn connection(&self, listener: &str) -> OpenConnection {
        let connections = self.entry(&self.connections, listener);
        connections.accepted.increment();
        connections.open.add(1);
        OpenConnection(connections)
    }

    /// A request of a route was held against its rate limits.
    pub fn rate_limit(&self, route: &str, admitted: bool) {
        let counted = usize::from(admitted);
        // A borrowed entry: a clone would be counted up and down across all cores.
        match self.rate_limits.load().get(route) {
            Some(counters) => counters[counted].increment(),
            None => self.entry(&self.rate_limits, route)[counted].increment(),
        }
    }

    /// A new configuration was put in service, or refused.
    pub fn reload(&self, succeeded: bool) {
        self.reloads[usize::from(succeeded)].increment();
    }

    pub(super) fn fault(&self, kind: FaultKind) {
        self.faults[kind as usize].increment();
    }

    /// The series of a way.
    fn series_of(&self, way: &Way<'_>) -> Arc<Series> {
        let route: &str = if way.route.is_empty() { NONE } else { way.route };
        let upstream = way.upstream.map_or(NONE, |upstream| upstream);
        if let Some(series) = find(&self.series.load(), way.listener, route, upstream) {
            return Arc::clone(series);
        }
        self.grow(way.listener, route, upstream)
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
    table: &'a Named<Box<str>, Vec<Arc<Series>>>,
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
        let last = LastSeries::default();
        let ended = Ended { status: StatusCode::OK, time: Duration::from_micros(400), received: 0, sent: 1 };
        let count = |route: &Arc<str>, upstream: &Arc<str>| {
            let way = Way { listener: "web", route, upstream: Some(upstream) };
            last.count(&metrics, &way, &ended);
            let series = metrics.series_of(&way);
            (series.sent(), series.route.to_string())
        };
        let [users, u1, u2] = ["users", "u1", "u2"].map(Arc::<str>::from);
        assert_eq!(count(&users, &u1), (1, "users".to_owned()));
        assert_eq!(count(&users, &u1), (2, "users".to_owned()));
        assert_eq!(count(&users, &u2), (1, "users".to_owned()));
        assert_eq!(count(&users, &"u1".into()), (3, "users".to_owned()), "a name is what it says");
        for number in 0..SERIES {
            count(&number.to_string().into(), &u1);
        }
        assert_eq!(count(&"one more".into(), &u1).1, OTHERS);
        assert!(metrics.series.load().values().map(Vec::len).sum::<usize>() <= SERIES + 1);
        assert_eq!(count(&users, &u1).0, 4, "what was there stays");
    }

    #[test]
    fn requests_are_in_flight_on_their_route_whatever_came_between() {
        let (metrics, last) = (Metrics::default(), LastSeries::default());
        let [a, b] = ["a", "b"].map(Arc::<str>::from);
        for (route, change) in [(&a, 1), (&b, 1), (&a, 1), (&b, -1), (&a, -1)] {
            last.in_flight(&metrics, "web", route, change);
        }
        let in_flight =
            |route| metrics.series_of(&Way { listener: "web", route, upstream: None }).in_flight();
        assert_eq!((in_flight(&a), in_flight(&b)), (1, 0));
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
        let series = Series::new("web", "users", "u1");
        for time in [Duration::from_micros(400), Duration::from_secs(60)] {
            series.count(&Ended { status: StatusCode::NOT_FOUND, time, received: 7, sent: 0 });
        }
        let (sum, count, buckets) = series.latency();
        assert!((sum - 60.0004).abs() < 1e-6);
        assert_eq!(count, 2);
        assert_eq!(buckets[0], (0.0005, 1));
        assert_eq!(buckets[LATENCY_BOUNDS.len()].1, 1);
        assert_eq!((series.classes(), series.received()), ([0, 0, 0, 2, 0], 14));
    }
}
