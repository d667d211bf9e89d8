//! Balancing policies: each a file and a row of [`BALANCERS`].
//!
//! All files have the same parts: what the policy is and when to choose it, its `KIND`, its `Settings`, the
//! policy, its balancer, tests. A [`Policy`] lives as long as its settings stay the same and makes a [`Balancer`]
//! for each set of endpoints. The upstream decides which endpoints are usable, and gives the policy a new set when
//! that changes; the check during a pick is only the last one. So a pick costs the same for 10,000 endpoints as
//! for three.

mod bound;
pub(crate) mod clock;
mod draw;
mod key;
mod latency;
mod least_requests;
mod maglev;
mod peak_ewma;
mod ring_hash;
mod round_robin;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::{Problems, Settings};

pub use latency::Latency;

/// A policy with its settings, and with what it keeps from one set of endpoints to the next.
pub trait Policy: Send + Sync {
    /// Makes a balancer for a group of endpoints.
    fn balancer(&self, group: Group) -> Box<dyn Balancer>;

    /// The hash of the request's key; `None` if the policy uses no key, or the request has none.
    fn hash(&self, _caller: &Caller<'_>) -> Option<u64> {
        None
    }

    /// Called with the outcome of each attempt at an endpoint.
    fn observe(&self, _latency: &Latency, _outcome: AttemptOutcome) {}

    /// Whether its balancers are tables that take long to build for many endpoints. Then they are built at most
    /// once a second. Until then the previous balancer is asked, and endpoints that take no requests any more are
    /// skipped.
    fn makes_tables(&self) -> bool {
        false
    }

    /// Whether its balancers need [`Pick::in_flight`].
    fn counts_in_flight(&self) -> bool {
        false
    }
}

/// Picks among the endpoints of one group. Shared by all cores.
pub trait Balancer: Send + Sync {
    /// The index of an endpoint for which `usable` returns true; `None` if there is none.
    fn pick(&self, pick: &Pick, usable: &dyn Fn(usize) -> bool) -> Option<usize>;
}

/// Endpoints that share requests, each with a weight above 0.
pub struct Group {
    /// The endpoints.
    pub candidates: Vec<Candidate>,
    /// The index of the group within its upstream, which is stable from one set of endpoints to the next.
    pub place: usize,
    /// The largest weight in the upstream, including endpoints that are not usable now.
    pub heaviest: u32,
    /// The number of endpoints of the upstream, including those that are not usable now.
    pub endpoints: usize,
}

/// One endpoint, as policies see it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// `host:port`. Hashes use it, so that the order in which endpoints are written does not matter.
    pub name: Arc<str>,
    /// Relative weight, above 0.
    pub weight: u32,
    /// Requests in flight, over all cores.
    pub active: Arc<AtomicUsize>,
    /// Its average latency, if the policy observes it.
    pub latency: Arc<Latency>,
}

impl Candidate {
    /// Requests in flight if it took one more.
    fn load(&self) -> usize {
        self.active.load(Ordering::Relaxed) + 1
    }
}

/// What a balancer may use of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick {
    /// The result of [`Policy::hash`].
    pub hash: Option<u64>,
    /// Requests in flight in the group, if [`Policy::counts_in_flight`].
    pub in_flight: usize,
}

/// The parts of a request that its key may be made from.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The normalised path that the client asked for.
    pub path: &'a str,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The key that a routing plugin chose. It takes precedence.
    pub hash_key: Option<&'a [u8]>,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A response began after this time.
    Answered(Duration),
    /// The endpoint failed after this time.
    Failed(Duration),
}

/// A row of the table: one policy.
pub struct BalancerKind {
    /// Its name in the configuration.
    pub kind: &'static str,
    /// When to choose it, in one sentence.
    pub summary: &'static str,
    /// Parses the settings.
    pub build: fn(&Settings) -> Result<Box<dyn Policy>, Problems>,
    /// The JSON Schema of the settings.
    pub schema: fn() -> serde_json::Value,
}

/// Every policy.
pub const BALANCERS: &[BalancerKind] =
    &[round_robin::KIND, least_requests::KIND, peak_ewma::KIND, ring_hash::KIND, maglev::KIND];

/// The JSON Schema of a type of settings.
fn schema_of<T: JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(T).to_value()
}

/// The settings of a policy without settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The policy of a kind with these settings, as the configuration would build it.
    pub(crate) fn policy(kind: &str, settings: serde_json::Value) -> Result<Box<dyn Policy>, Problems> {
        let serde_json::Value::Object(value) = settings else { panic!("settings are an object") };
        let row = BALANCERS.iter().find(|row| row.kind == kind).expect("a known kind");
        (row.build)(&Settings::unwritten("upstreams.a.balancer", value))
    }

    /// A group of endpoints with these weights, named `e0:80`, `e1:80` and so on.
    pub(crate) fn group(weights: &[u32]) -> Group {
        let candidate = |(index, weight): (usize, &u32)| Candidate {
            name: format!("e{index}:80").into(),
            weight: *weight,
            active: Arc::default(),
            latency: Arc::default(),
        };
        let candidates: Vec<Candidate> = weights.iter().enumerate().map(candidate).collect();
        let heaviest = weights.iter().copied().max().unwrap_or(1);
        Group { endpoints: candidates.len(), candidates, place: 0, heaviest }
    }

    /// The largest relative difference between a share of picks and the share of the weight.
    pub(crate) fn worst_error(weights: &[u32], counts: &[usize]) -> f64 {
        let (total, picks) = (weights.iter().sum::<u32>(), counts.iter().sum::<usize>());
        let errors = weights.iter().zip(counts).map(|(weight, count)| {
            let fair = f64::from(*weight) / f64::from(total) * picks as f64;
            (*count as f64 - fair).abs() / fair
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn every_row_has_a_kind_of_its_own_and_settings_that_refuse_unknown_keys() {
        for (index, row) in BALANCERS.iter().enumerate() {
            assert!(BALANCERS[..index].iter().all(|other| other.kind != row.kind), "{}", row.kind);
            assert!(policy(row.kind, serde_json::json!({})).is_ok(), "{}", row.kind);
            let problems = policy(row.kind, serde_json::json!({ "no such key": 1 })).err().expect("refused");
            assert_eq!(problems.len(), 1, "{}", row.kind);
            assert_eq!((row.schema)()["additionalProperties"], false, "{}", row.kind);
        }
    }

    /// The rule for every policy: a pick checks a few endpoints, however many there are, even while half of them
    /// are unusable and the set has not been rebuilt yet.
    #[test]
    fn a_pick_among_ten_thousand_looks_at_a_few() {
        for row in BALANCERS {
            let group = group(&[1; 10_000]);
            let balancer = policy(row.kind, serde_json::json!({})).expect("built").balancer(group);
            for usable in [|_: usize| true, |index| index % 2 == 0, |index| index >= 5000] {
                let looks = std::cell::Cell::new(0);
                let usable = |index: usize| {
                    looks.set(looks.get() + 1);
                    usable(index)
                };
                for number in 0..1000_u64 {
                    let hash = Some(key::hash(&number.to_le_bytes(), 0));
                    let picked = balancer.pick(&Pick { hash, in_flight: 0 }, &usable);
                    assert!(picked.is_some(), "{}", row.kind);
                }
                assert!(looks.get() < 8 * 1000, "{} looked at {} for 1000 picks", row.kind, looks.get());
            }
        }
    }

    #[test]
    fn the_only_usable_one_of_many_is_found_and_none_if_there_is_none() {
        for row in BALANCERS {
            let balancer =
                policy(row.kind, serde_json::json!({})).expect("built").balancer(group(&[3; 1000]));
            for _ in 0..20 {
                assert_eq!(balancer.pick(&Pick::default(), &|index| index == 777), Some(777), "{}", row.kind);
            }
            assert_eq!(balancer.pick(&Pick::default(), &|_| false), None, "{}", row.kind);
        }
    }
}
