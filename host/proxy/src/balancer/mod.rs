//! Balancing policies: each a file and a row of [`BALANCERS`].
//!
//! A policy sees weights, requests in flight and the key of a request; which endpoints are usable (breaker, weight,
//! tried before) is decided outside. A pick costs the same for 10,000 endpoints as for three.

pub mod least_requests;
pub mod round_robin;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What a policy may look at to pick an endpoint.
pub struct Pick<'a> {
    /// The endpoints.
    pub endpoints: &'a [Candidate],
    /// The key for hashing policies.
    pub hash_key: Option<&'a [u8]>,
}

/// One endpoint as a policy sees it.
#[derive(Debug)]
pub struct Candidate {
    /// Relative share; 0 takes no new requests.
    pub weight: u32,
    /// Requests in flight, over all cores.
    pub active: Arc<AtomicUsize>,
}

/// A policy with its state, shared by all cores.
pub trait Balancer: Send + Sync {
    /// The index of the endpoint to use among those for which `usable` says yes; none if there is none.
    fn pick(&self, pick: &Pick<'_>, usable: &dyn Fn(usize) -> bool) -> Option<usize>;
}

/// A row of the table: one policy.
pub struct BalancerKind {
    /// The name in the configuration.
    pub kind: &'static str,
    /// When to choose it, in one sentence.
    pub summary: &'static str,
    /// Makes one for a number of endpoints with these weights.
    pub build: fn(&[u32]) -> Box<dyn Balancer>,
}

/// Every policy.
pub const BALANCERS: &[BalancerKind] = &[round_robin::KIND, least_requests::KIND];
