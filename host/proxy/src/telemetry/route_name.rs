//! The name of a route, with references to the counters of the route.
//!
//! A request is counted in two series, when it begins and when it ends. The references avoid looking them up by
//! name, which misses the processor's caches when there are thousands of routes.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::metrics::{Ended, Metrics, NONE, Series};

/// The name of a route of one listener. The default is empty and names no route.
#[derive(Clone, Default)]
pub struct RouteName(Option<Arc<Named>>);

struct Named {
    name: Box<str>,
    /// The series of requests without an upstream, or whose upstream is not chosen yet.
    unasked: OnceLock<Arc<Series>>,
    /// The series of the first upstream that a request chose. Others are looked up; most routes have only one.
    asked: OnceLock<(Arc<str>, Arc<Series>)>,
}

impl RouteName {
    /// Counts a request of the route as in flight (1), or no longer (-1).
    pub(crate) fn in_flight(&self, metrics: &Metrics, listener: &str, change: i64) {
        self.with(metrics, listener, None, |series| series.add_in_flight(change));
    }

    /// Counts a finished request of the route.
    pub(super) fn count(
        &self,
        metrics: &Metrics,
        listener: &str,
        upstream: Option<&Arc<str>>,
        ended: &Ended,
    ) {
        self.with(metrics, listener, upstream, |series| series.count(ended));
    }

    fn with(
        &self,
        metrics: &Metrics,
        listener: &str,
        upstream: Option<&Arc<str>>,
        work: impl FnOnce(&Series),
    ) {
        let look_up = |route: &str, upstream: &str| metrics.series_of(listener, route, upstream);
        match (&self.0, upstream) {
            (Some(named), Some(upstream)) => {
                let first = || (upstream.clone(), look_up(&named.name, upstream));
                let (known, series) = named.asked.get_or_init(first);
                if known == upstream {
                    work(series);
                } else {
                    work(&look_up(&named.name, upstream));
                }
            }
            (Some(named), None) => work(named.unasked.get_or_init(|| look_up(&named.name, NONE))),
            (None, upstream) => work(&look_up(NONE, upstream.map_or(NONE, |upstream| upstream))),
        }
    }
}

impl From<&str> for RouteName {
    fn from(name: &str) -> Self {
        let named = || Named { name: name.into(), unasked: OnceLock::new(), asked: OnceLock::new() };
        RouteName((!name.is_empty()).then(|| Arc::new(named())))
    }
}

impl Deref for RouteName {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_ref().map_or("", |named| &named.name)
    }
}

impl PartialEq for RouteName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for RouteName {}

impl fmt::Display for RouteName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self)
    }
}

impl fmt::Debug for RouteName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
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
        let [users, orders, none] = ["users", "orders", ""].map(RouteName::from);
        let [u1, u2] = ["u1", "u2"].map(Arc::<str>::from);
        for (route, upstream) in [
            (&users, Some(&u1)),
            (&users, Some(&u2)),
            (&orders, Some(&u2)),
            (&users, None),
            (&users, Some(&u2)),
            (&users, Some(&"u1".into())),
            (&none, None),
            (&RouteName::from("users"), Some(&u1)),
        ] {
            route.count(&metrics, "web", upstream, &ended);
        }
        let sent = |route: &str, upstream: &str| metrics.series_of("web", route, upstream).sent();
        assert_eq!((sent("users", "u1"), sent("users", "u2"), sent("users", NONE)), (3, 2, 1));
        assert_eq!((sent("orders", "u1"), sent("orders", "u2"), sent(NONE, NONE)), (0, 1, 1));
    }

    #[test]
    fn requests_are_in_flight_on_their_route() {
        let metrics = Metrics::default();
        let [a, b] = ["a", "b"].map(RouteName::from);
        for (route, change) in [(&a, 1), (&b, 1), (&a, 1), (&b, -1), (&a, -1)] {
            route.in_flight(&metrics, "web", change);
        }
        let in_flight = |route| metrics.series_of("web", route, NONE).in_flight();
        assert_eq!((in_flight("a"), in_flight("b")), (1, 0));
    }
}
