//! Where the requests of one route are counted.
//!
//! A request is counted when it begins and when it is over. A route keeps the series in which its requests are counted,
//! because finding them by their names costs cache misses as soon as thousands of routes are in use.

use std::fmt;
use std::sync::{Arc, OnceLock};

use witgate_exchange::contracts::Observer;

use super::metrics::{Ended, Metrics, NONE, Series};

/// The series of one route of one listener.
pub struct RouteSeries {
    route: Arc<str>,
    /// Of requests that were sent to no upstream, or not yet.
    without_upstream: OnceLock<Arc<Series>>,
    /// Of requests to the first upstream that a request of this route was sent to. The series of another upstream is found
    /// by its name each time: most routes have one upstream.
    first_upstream: OnceLock<(Arc<str>, Arc<Series>)>,
    /// The bindings that observe its requests.
    observers: Vec<Arc<dyn Observer>>,
}

impl fmt::Debug for RouteSeries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RouteSeries").field("route", &self.route).finish_non_exhaustive()
    }
}

impl RouteSeries {
    /// The series of the route of this name, none of which is looked up yet.
    pub fn new(route: Arc<str>) -> Self {
        let (without_upstream, first_upstream) = (OnceLock::new(), OnceLock::new());
        RouteSeries { route, without_upstream, first_upstream, observers: Vec::new() }
    }

    /// Has a binding observe the requests of the route.
    pub fn observed_by(&mut self, observer: Arc<dyn Observer>) {
        self.observers.push(observer);
    }

    /// The bindings that observe its requests.
    pub(super) fn observers(&self) -> &[Arc<dyn Observer>] {
        &self.observers
    }

    /// Adds `change` to the number of the route's requests that are in flight.
    pub fn in_flight(&self, metrics: &Metrics, listener: &str, change: i64) {
        let find = || metrics.series_of(listener, &self.route, NONE);
        self.without_upstream.get_or_init(find).add_in_flight(change);
    }

    /// Counts a request of the route that is over.
    pub(super) fn count(
        &self,
        metrics: &Metrics,
        listener: &str,
        upstream: Option<&Arc<str>>,
        ended: &Ended,
    ) {
        let find = |upstream: &str| metrics.series_of(listener, &self.route, upstream);
        let Some(upstream) = upstream else {
            return self.without_upstream.get_or_init(|| find(NONE)).count(ended);
        };
        let (first, series) = self.first_upstream.get_or_init(|| (upstream.clone(), find(upstream)));
        if first == upstream {
            series.count(ended);
        } else {
            find(upstream).count(ended);
        }
    }
}

/// Counts a request that is over and for which no route was found.
pub(super) fn count_without_route(
    metrics: &Metrics,
    listener: &str,
    upstream: Option<&Arc<str>>,
    ended: &Ended,
) {
    metrics.series_of(listener, NONE, upstream.map_or(NONE, |upstream| upstream)).count(ended);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_upstream_whatever_came_between() {
        let metrics = Metrics::default();
        let ended = Ended { status: StatusCode::OK, time: Duration::from_micros(400), received: 0, sent: 1 };
        let [users, orders] = ["users", "orders"].map(|name| RouteSeries::new(name.into()));
        let [u1, u2] = ["u1", "u2"].map(Arc::<str>::from);
        for (route, upstream) in [
            (&users, Some(&u1)),
            (&users, Some(&u2)),
            (&orders, Some(&u2)),
            (&users, None),
            (&users, Some(&u2)),
            (&users, Some(&"u1".into())),
            (&RouteSeries::new("users".into()), Some(&u1)),
        ] {
            route.count(&metrics, "web", upstream, &ended);
        }
        count_without_route(&metrics, "web", None, &ended);
        let sent = |route: &str, upstream: &str| metrics.series_of("web", route, upstream).sent();
        assert_eq!((sent("users", "u1"), sent("users", "u2"), sent("users", NONE)), (3, 2, 1));
        assert_eq!((sent("orders", "u1"), sent("orders", "u2"), sent(NONE, NONE)), (0, 1, 1));
    }

    #[test]
    fn requests_are_in_flight_on_their_route() {
        let metrics = Metrics::default();
        let [a, b] = ["a", "b"].map(|name| RouteSeries::new(name.into()));
        for (route, change) in [(&a, 1), (&b, 1), (&a, 1), (&b, -1), (&a, -1)] {
            route.in_flight(&metrics, "web", change);
        }
        let in_flight = |route| metrics.series_of("web", route, NONE).in_flight();
        assert_eq!((in_flight("a"), in_flight("b")), (1, 0));
    }
}
