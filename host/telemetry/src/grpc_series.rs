//! Calls of gRPC by route, method and status.
//!
//! The names of methods come from clients, who can make up as many as they like. So a method has a row of its own only
//! once an upstream has answered a call of it with another status than `UNIMPLEMENTED`, and there are at most [`ROWS`]
//! rows. All other calls of a route are counted together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use witgate_exchange::grpc::{CODES, Code};
use witgate_exchange::names::Named;
use witgate_exchange::per_core::{self, PerCore};

use crate::metrics::OTHERS;

/// The most methods that are counted separately, over all routes.
const ROWS: usize = 1024;

/// The longest name of a method that gets a row.
const LONGEST: usize = 256;

/// The counts of one method by the number of the status.
type Row = Arc<PerCore<[AtomicU64; CODES]>>;

/// The rows of each route, by method. Clients choose the methods, so their hashes are random.
type Rows = Named<Box<str>, HashMap<Box<str>, Row>>;

/// All rows. They are read without a lock, and grow rarely.
#[derive(Debug, Default)]
pub(super) struct GrpcSeries {
    rows: ArcSwap<Rows>,
    growing: Mutex<()>,
}

impl GrpcSeries {
    /// Counts a call of a route. `answered` is whether its status is the answer of an upstream.
    pub(super) fn count(&self, route: &str, method: &str, code: Code, answered: bool) {
        let known = self.rows.load();
        let of_route = known.get(route);
        let row = match of_route.and_then(|rows| rows.get(method)) {
            Some(row) => row,
            None if answered && code != Code::UNIMPLEMENTED && is_method(method) => {
                return increment(&self.grow(route, method), code);
            }
            None => match of_route.and_then(|rows| rows.get(OTHERS)) {
                Some(row) => row,
                None => return increment(&self.grow(route, OTHERS), code),
            },
        };
        increment(row, code);
    }

    /// Route, method, status and number of every count that is not 0.
    pub(super) fn all(&self) -> Vec<(String, String, u8, u64)> {
        let mut all = Vec::new();
        for (route, rows) in self.rows.load().iter() {
            for (method, row) in rows {
                let codes = (0u8..).take(CODES);
                let counts = codes
                    .map(|code| (code, row.sum(|cells| cells[usize::from(code)].load(Ordering::Relaxed))));
                let named = |(code, count)| (route.to_string(), method.to_string(), code, count);
                all.extend(counts.filter(|(_, count)| *count > 0).map(named));
            }
        }
        all
    }

    /// Keeps the rows of these routes.
    pub(super) fn retain(&self, stays: impl Fn(&str) -> bool) {
        let _guard = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rows.load();
        if before.keys().any(|route| !stays(route)) {
            let kept = before.iter().filter(|(route, _)| stays(route));
            self.rows.store(Arc::new(kept.map(|(route, rows)| (route.clone(), rows.clone())).collect()));
        }
    }

    /// The row of a method, created if there is room for it, or else the row of the others.
    fn grow(&self, route: &str, method: &str) -> Row {
        let _guard = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rows.load();
        let full = before.values().map(HashMap::len).sum::<usize>() >= ROWS;
        let method = if full { OTHERS } else { method };
        if let Some(row) = before.get(route).and_then(|rows| rows.get(method)) {
            return Arc::clone(row);
        }
        let mut grown = Rows::clone(&before);
        let row = Arc::clone(grown.entry(route.into()).or_default().entry(method.into()).or_default());
        self.rows.store(Arc::new(grown));
        row
    }
}

fn increment(row: &Row, code: Code) {
    per_core::add(&row.mine()[usize::from(code.number())], 1);
}

/// Whether this can be the name of a method: a service and a method, of the characters that such names have.
fn is_method(name: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    name.len() <= LONGEST
        && name.split_once('/').is_some_and(|(service, method)| good(service) && good(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts of a route by method and status.
    fn counts(series: &GrpcSeries, route: &str) -> Vec<(String, u8, u64)> {
        let all = series.all().into_iter().filter(|(of, ..)| of == route);
        let mut counts: Vec<_> = all.map(|(_, method, code, count)| (method, code, count)).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn methods_that_upstreams_have_are_apart_and_made_up_ones_are_not() {
        let series = GrpcSeries::default();
        for number in 0..100_000 {
            series.count("a", &format!("x.Y/{number}"), Code::UNIMPLEMENTED, true);
            series.count("a", &format!("x.Z/{number}"), Code::UNAUTHENTICATED, false);
        }
        series.count("a", "x.Y/Get", Code::OK, true);
        series.count("a", "x.Y/Get", Code::UNIMPLEMENTED, true);
        series.count("a", "x.Y/with/slashes", Code::OK, true);
        let others = OTHERS.to_owned();
        let expected = [
            (others.clone(), 0, 1),
            (others.clone(), 12, 100_000),
            (others, 16, 100_000),
            ("x.Y/Get".to_owned(), 0, 1),
            ("x.Y/Get".to_owned(), 12, 1),
        ];
        assert_eq!(counts(&series, "a"), expected);
    }

    #[test]
    fn there_are_no_more_rows_than_allowed() {
        let series = GrpcSeries::default();
        for number in 0..3000 {
            series.count("a", &format!("x.Y/M{number}"), Code::OK, true);
        }
        assert_eq!(series.rows.load().values().map(HashMap::len).sum::<usize>(), ROWS + 1);
        assert_eq!(series.all().iter().map(|(.., count)| count).sum::<u64>(), 3000);
        series.count("b", "x.Y/M", Code::OK, true);
        series.retain(|route| route == "b");
        assert_eq!(series.all().len(), 1);
    }
}
