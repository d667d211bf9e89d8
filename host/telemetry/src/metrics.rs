//! Metrics: counted on each core, summed when they are read.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::names::Named;
use witgate_exchange::per_core::{self, PerCore};
use witgate_exchange::record::Injected;

use crate::grpc_series::GrpcSeries;
use crate::names_in_service::NamesInService;
use crate::session::{self, SessionSeries};

/// The label value for no route or no upstream.
pub const NONE: &str = "-";

/// The label value for every route and upstream beyond [`SERIES`].
pub(super) const OTHERS: &str = "(others)";

/// The most combinations of listener, route and upstream that are counted separately.
const SERIES: usize = 4096;

/// Upper bounds of the latency buckets, in seconds.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A counter that every core may increment.
#[derive(Debug, Default)]
pub struct Counter(PerCore<AtomicU64>);

impl Counter {
    /// Adds 1.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `more`.
    pub fn add(&self, more: u64) {
        per_core::add(self.0.mine(), more);
    }

    /// The sum over all cores.
    pub fn get(&self) -> u64 {
        self.0.sum(|cell| cell.load(Ordering::Relaxed))
    }
}

/// A gauge that every core may change.
#[derive(Debug, Default)]
pub struct Gauge(PerCore<AtomicI64>);

impl Gauge {
    /// Adds `more`, which may be negative.
    pub fn add(&self, more: i64) {
        per_core::add_signed(self.0.mine(), more);
    }

    /// The sum over all cores.
    pub fn get(&self) -> i64 {
        self.0.iter().map(|cell| cell.load(Ordering::Relaxed)).sum()
    }
}

/// The counts of one combination of listener, route and upstream.
#[derive(Debug)]
pub struct Series {
    pub(super) listener: Box<str>,
    pub(super) route: Box<str>,
    pub(super) upstream: Box<str>,
    /// Allocated with the first request, because many routes may never get one.
    cells: OnceLock<PerCore<Cells>>,
}

/// The counts of one core, in two or three neighbouring cache lines.
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
            cells: OnceLock::new(),
        }
    }

    pub(super) fn count(&self, ended: &Ended) {
        let cells = self.cells().mine();
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

    pub(super) fn add_in_flight(&self, change: i64) {
        per_core::add_signed(&self.cells().mine().in_flight, change);
    }

    fn cells(&self) -> &PerCore<Cells> {
        self.cells.get_or_init(PerCore::default)
    }

    fn sum(&self, read: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.cells.get().map_or(0, |all| all.sum(|cells| read(cells).load(Ordering::Relaxed)))
    }

    /// Whether it has counted any request.
    pub(super) fn is_used(&self) -> bool {
        self.cells.get().is_some()
    }

    /// Finished requests by class: 1xx to 5xx.
    pub(super) fn classes(&self) -> [u64; 5] {
        std::array::from_fn(|class| self.sum(|cells| &cells.classes[class]))
    }

    /// The durations of finished requests: the sum in seconds, the count, and the buckets by upper bound.
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

    /// Requests in flight.
    pub(super) fn in_flight(&self) -> i64 {
        let cells = self.cells.get().into_iter().flat_map(PerCore::iter);
        cells.map(|cells| cells.in_flight.load(Ordering::Relaxed)).sum()
    }
}

/// What is counted of a finished request.
pub(super) struct Ended {
    pub(super) status: StatusCode,
    /// From its head to the end of its response.
    pub(super) time: Duration,
    /// Bytes of the request body.
    pub(super) received: u64,
    /// Bytes of the response body.
    pub(super) sent: u64,
}

/// Guard: a connection of a listener is counted as open until this is dropped.
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

/// A counter for each kind of fault.
#[derive(Debug)]
pub(super) struct FaultCounters([Counter; FaultKind::ALL.len()]);

impl FaultCounters {
    /// That of a kind.
    pub(super) fn of(&self, kind: FaultKind) -> &Counter {
        &self.0[kind as usize]
    }
}

impl Default for FaultCounters {
    fn default() -> Self {
        FaultCounters(std::array::from_fn(|_| Counter::default()))
    }
}

/// A table that is read without a lock on the request path and grows rarely, behind a lock, up to a limit.
type Table<V> = ArcSwap<Named<Box<str>, V>>;

/// By route. The few combinations of a route with listeners and upstreams are searched linearly.
#[derive(Debug, Default, Clone)]
pub(super) struct AllSeries {
    by_route: Named<Box<str>, Vec<Arc<Series>>>,
    count: usize,
}

impl AllSeries {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.by_route.values().flatten()
    }

    /// The series of these names; if the table is full, that of all others.
    fn find(&self, listener: &str, route: &str, upstream: &str) -> Option<&Arc<Series>> {
        let exactly = |route: &str, upstream: &str| {
            let same = |series: &&Arc<Series>| *series.listener == *listener && *series.upstream == *upstream;
            self.by_route.get(route)?.iter().find(same)
        };
        exactly(route, upstream).or_else(|| if self.is_full() { exactly(OTHERS, OTHERS) } else { None })
    }

    fn is_full(&self) -> bool {
        self.count >= SERIES
    }

    fn add(&mut self, series: Arc<Series>) {
        self.by_route.entry(series.route.clone()).or_default().push(series);
        self.count += 1;
    }
}

/// All metrics.
#[derive(Default)]
pub struct Metrics {
    /// `None` before the first configuration.
    pub(super) names: ArcSwapOption<NamesInService>,
    pub(super) series: ArcSwap<AllSeries>,
    pub(super) connections: Table<Arc<Connections>>,
    /// By listener, route and upstream, as [`session::key`] joins them.
    pub(super) sessions: Table<Arc<SessionSeries>>,
    pub(super) rate_limits: Table<Arc<[Counter; 2]>>,
    /// Delays and refusals that the filter `fault` injected, by route.
    pub(super) injected: Table<Arc<[Counter; 2]>>,
    /// Calls of gRPC.
    pub(super) grpc: GrpcSeries,
    pub(super) faults: FaultCounters,
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

    /// All metrics as OpenMetrics text; [`Exposition::of`](crate::exposition::Exposition::of) makes another format of it.
    pub fn expose(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes everything");
        text
    }

    /// Counts an accepted connection, as open until the guard is dropped.
    pub fn connection(&self, listener: &str) -> OpenConnection {
        let connections = self.entry(&self.connections, listener);
        connections.accepted.increment();
        connections.open.add(1);
        OpenConnection(connections)
    }

    /// Counts a request that was checked against the rate limits of its route.
    pub fn rate_limit(&self, route: &str, admitted: bool) {
        let counted = usize::from(admitted);
        // Borrowed, not cloned: reference counts of an `Arc` would be contended by all cores.
        match look_up(&self.rate_limits.load(), route) {
            Some(counters) => counters[counted].increment(),
            None => self.entry(&self.rate_limits, route)[counted].increment(),
        }
    }

    /// Counts a request of a route to which the filter `fault` did something.
    pub(super) fn injected(&self, route: &str, injected: Injected) {
        let counters = self.entry(&self.injected, route);
        for (counter, done) in counters.iter().zip([injected.delay, injected.abort]) {
            counter.add(done.into());
        }
    }

    /// Counts a reload, by whether the new configuration was put in service or refused.
    pub fn reload(&self, succeeded: bool) {
        self.reloads[usize::from(succeeded)].increment();
    }

    /// The series of the sessions of a listener, route and upstream.
    pub(super) fn sessions_of(&self, listener: &str, route: &str, upstream: &str) -> Arc<SessionSeries> {
        self.entry(&self.sessions, &session::key(listener, route, upstream))
    }

    pub(super) fn fault(&self, kind: FaultKind) {
        self.faults.of(kind).increment();
    }

    /// The series of a route, listener and upstream; [`NONE`] stands for no route or upstream.
    pub(super) fn series_of(&self, listener: &str, route: &str, upstream: &str) -> Arc<Series> {
        if let Some(series) = self.series.load().find(listener, route, upstream) {
            return Arc::clone(series);
        }
        self.grow(listener, route, upstream)
    }

    /// Called when a configuration is put in service. Creates the series that requests will need, in one step, because a
    /// request that creates one copies the table. Removes those that no request used, and everything about names that are
    /// not in service any more; a request in progress that still belongs to one may create its series again, which is not
    /// shown.
    pub fn expect<'a>(
        &self,
        names: NamesInService,
        ways: impl Iterator<Item = (&'a str, &'a str, Option<&'a str>)>,
    ) {
        let _guard = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.series.load();
        let mut after = AllSeries::default();
        let stays = |series: &&Arc<Series>| series.is_used() && names.has_series(series);
        before.iter().filter(stays).for_each(|series| after.add(Arc::clone(series)));
        for (listener, route, upstream) in ways {
            let upstream = upstream.unwrap_or(NONE);
            if after.is_full() {
                break;
            }
            if after.find(listener, route, upstream).is_none() {
                let known = before.find(listener, route, upstream).filter(|series| *series.route == *route);
                let new = || Arc::new(Series::new(listener, route, upstream));
                after.add(known.map_or_else(new, Arc::clone));
            }
        }
        self.series.store(Arc::new(after));
        for table in [&self.rate_limits, &self.injected] {
            retain(table, |route, _| names.has_route(route));
        }
        retain(&self.sessions, |key, series| names.has_sessions(key, series));
        self.grpc.retain(|route| route == NONE || names.has_route(route));
        retain(&self.connections, |listener, connections| names.has_connections(listener, connections));
        self.names.store(Some(Arc::new(names)));
    }

    /// Creates a missing series, once, behind a lock.
    fn grow(&self, listener: &str, route: &str, upstream: &str) -> Arc<Series> {
        let _guard = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.series.load();
        if let Some(series) = table.find(listener, route, upstream) {
            return Arc::clone(series);
        }
        let (route, upstream) = if table.is_full() { (OTHERS, OTHERS) } else { (route, upstream) };
        let series = Arc::new(Series::new(listener, route, upstream));
        let mut grown = AllSeries::clone(&table);
        grown.add(Arc::clone(&series));
        self.series.store(Arc::new(grown));
        series
    }

    /// The entry for a name of the configuration, created if it is missing.
    fn entry<V: Default>(&self, table: &Table<Arc<V>>, name: &str) -> Arc<V> {
        if let Some(entry) = look_up(&table.load(), name) {
            return Arc::clone(entry);
        }
        let _guard = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = table.load();
        if let Some(entry) = look_up(&current, name) {
            return Arc::clone(entry);
        }
        let name = if current.len() < SERIES { name } else { OTHERS };
        let mut grown = Named::clone(&current);
        let entry = Arc::clone(grown.entry(name.into()).or_default());
        table.store(Arc::new(grown));
        entry
    }
}

/// Keeps the entries for which `stays` is true.
fn retain<V: Clone>(table: &Table<V>, stays: impl Fn(&str, &V) -> bool) {
    let before = table.load();
    if before.iter().any(|(name, entry)| !stays(name, entry)) {
        let kept = before.iter().filter(|(name, entry)| stays(name, entry));
        table.store(Arc::new(kept.map(|(name, entry)| (name.clone(), entry.clone())).collect()));
    }
}

/// The entry for a name; if the table is full, that of all others.
fn look_up<'a, V>(table: &'a Named<Box<str>, V>, name: &str) -> Option<&'a V> {
    table.get(name).or_else(|| if table.len() >= SERIES { table.get(OTHERS) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_apart_up_to_a_bound() {
        let metrics = Metrics::default();
        let first = metrics.series_of("web", "users", "u1");
        for number in 0..SERIES {
            metrics.series_of("web", &number.to_string(), "u1");
        }
        let others = metrics.series_of("web", "one more", "u1");
        assert_eq!((&*others.route, &*others.upstream), (OTHERS, OTHERS));
        assert!(Arc::ptr_eq(&others, &metrics.series_of("web", "and one", NONE)));
        assert!(Arc::ptr_eq(&first, &metrics.series_of("web", "users", "u1")), "what was there stays");
        let table = metrics.series.load();
        assert_eq!(table.iter().count(), SERIES + 1, "as many as there may be, and the others");
    }

    #[test]
    fn series_that_are_expected_are_there_and_cost_no_cells() {
        let metrics = Metrics::default();
        metrics.series_of("web", "users", NONE).add_in_flight(1);
        let routes: Vec<String> = (0..SERIES).map(|number| number.to_string()).collect();
        let ways = || routes.iter().flat_map(|route| [("web", &**route, Some("u1")), ("web", route, None)]);
        let names = || {
            let routes = routes.iter().map(String::as_str).chain(["users", "renamed"]);
            NamesInService::new(["web"], routes, ["u1"])
        };
        metrics.expect(names(), [("web", "users", None)].into_iter().chain(ways()));
        let table = metrics.series.load_full();
        assert_eq!(table.iter().count(), SERIES);
        assert_eq!(table.iter().filter(|series| series.is_used()).count(), 1);
        metrics.series_of("web", "0", "u1").add_in_flight(1);
        metrics.expect(names(), [("web", "renamed", None)].into_iter());
        assert_eq!(metrics.series.load().iter().count(), 3, "two that were used, and what is expected now");
        let in_flight = |route, upstream| metrics.series_of("web", route, upstream).in_flight();
        assert_eq!((in_flight("users", NONE), in_flight("0", "u1")), (1, 1));
    }

    #[test]
    fn what_is_about_names_that_are_gone_goes_with_them() {
        let metrics = Metrics::default();
        let count = |number: usize| {
            let route = format!("route-{number}");
            metrics.series_of("web", &route, "u1").add_in_flight(1);
            metrics.series_of("web", &route, NONE).add_in_flight(1);
            metrics.rate_limit(&route, true);
            metrics.injected(&route, Injected { delay: true, abort: false });
        };
        for number in 0..1200 {
            let route = format!("route-{number}");
            metrics.expect(NamesInService::new(["web"], [route.as_str()], ["u1"]), std::iter::empty());
            count(number);
        }
        metrics.series_of("web", NONE, NONE).add_in_flight(1);
        drop(metrics.connection("old"));
        let open = metrics.connection("draining");
        metrics.expect(NamesInService::new(["web"], ["route-1199"], ["u1"]), std::iter::empty());
        let series: Vec<_> = metrics.series.load().iter().map(|series| series.route.to_string()).collect();
        assert_eq!(series.len(), 3, "{series:?}");
        assert_eq!((metrics.rate_limits.load().len(), metrics.injected.load().len()), (1, 1));
        let listeners = || metrics.connections.load().keys().cloned().collect::<Vec<_>>();
        assert_eq!(listeners(), ["draining".into()], "it has an open connection");
        drop(open);
        metrics.expect(NamesInService::new(["web"], ["route-1199"], ["u2"]), std::iter::empty());
        assert!(listeners().is_empty());
        assert_eq!(metrics.series.load().iter().count(), 2, "that of the upstream that is gone went");
    }

    #[test]
    fn rate_limits_are_apart_up_to_a_bound() {
        let metrics = Metrics::default();
        for number in 0..SERIES + 2 {
            metrics.rate_limit(&number.to_string(), true);
        }
        metrics.rate_limit("0", true);
        let table = metrics.rate_limits.load();
        let admitted = |route: &str| table[route][1].get();
        assert_eq!((table.len(), admitted("0"), admitted(OTHERS)), (SERIES + 1, 2, 2));
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
