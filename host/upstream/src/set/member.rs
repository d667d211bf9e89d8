//! Members of an endpoint set, and how they are built from what a source reports.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::EndpointSet;
use crate::balancer::{Candidate, clock};
use crate::discovery::EndpointSpec;
use crate::endpoint::Endpoint;
use crate::pick::slow_start::Newness;

/// An endpoint, and what its source reports about it.
pub(crate) struct Member {
    membership: Arc<Membership>,
    pub(crate) spec: Arc<EndpointSpec>,
    pub(crate) rank: Rank,
    /// The number of requests in flight in its group, over all cores. `None` if the balancing policy does not need
    /// it.
    pub(crate) in_flight: Option<Arc<AtomicUsize>>,
}

/// Shared by all members of an endpoint. When the last member is dropped, the endpoint has left all sets; this
/// also covers a reload that removes the upstream.
struct Membership(Arc<Endpoint>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Identifies and orders the groups of endpoints: by priority, and within a priority the gateway's own zone first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Rank {
    priority: u32,
    elsewhere: bool,
}

impl Rank {
    /// The group of an endpoint for a gateway in this zone.
    pub(crate) fn of(spec: &EndpointSpec, zone: Option<&str>) -> Rank {
        Rank { priority: spec.priority, elsewhere: zone.is_some() && spec.zone.as_deref() != zone }
    }
}

impl Member {
    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.membership.0
    }

    /// The weight that its source reports, unless an operator has set another.
    pub(crate) fn weight(&self) -> u32 {
        self.endpoint().share.weight(self.spec.weight)
    }

    /// Whether neither an operator nor the source excludes it from taking requests. Breaker and checks are
    /// ignored.
    pub(crate) fn is_wanted(&self) -> bool {
        self.weight() > 0 && self.endpoint().is_wanted()
    }

    /// Whether both members are of the same endpoint.
    pub(crate) fn is_same_endpoint(&self, other: &Member) -> bool {
        Arc::ptr_eq(self.endpoint(), other.endpoint())
    }

    /// The candidate for a balancer, with this weight in hundredths.
    pub(crate) fn candidate(&self, weight: u32) -> Candidate {
        let endpoint = self.endpoint();
        Candidate {
            name: endpoint.name.clone(),
            weight,
            active: endpoint.active.clone(),
            latency: endpoint.latency.clone(),
        }
    }

    /// The number of requests in flight in its group; 0 if they are not counted.
    pub(crate) fn group_in_flight(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.load(Ordering::Relaxed))
    }
}

/// Builds the members of a set.
pub(crate) struct MemberBuilder<'a> {
    /// The gateway's zone.
    pub(crate) zone: Option<&'a str>,
    /// Whether connections to the endpoints use TLS.
    pub(crate) tls: bool,
    /// The host and port for the header `Host`, if they are not those of the endpoint.
    pub(crate) authority: Option<(&'a str, u16)>,
    /// Whether the balancing policy needs the number of requests in flight in a group.
    pub(crate) counts_in_flight: bool,
    /// The previous set. `None` if the upstream is new; then no endpoint is in slow start.
    pub(crate) before: Option<&'a EndpointSet>,
    /// Whether protocol and TLS are those of the previous set. If not, all endpoints are new, and only what an
    /// operator has set for them is carried over.
    pub(crate) same_way: bool,
}

impl MemberBuilder<'_> {
    /// Builds the members. An endpoint that stays keeps its state.
    ///
    /// # Errors
    /// The index of each endpoint whose host is invalid, and why.
    pub(crate) fn members(
        &self,
        specs: &[Arc<EndpointSpec>],
    ) -> Result<Vec<Arc<Member>>, Vec<(usize, String)>> {
        let entries = self.before.map_or(&[][..], |before| &before.entries);
        let mut known: HashMap<_, &Arc<Member>> =
            entries.iter().map(|entry| (entry.member.spec.borrowed_key(), &entry.member)).collect();
        let mut in_flight: BTreeMap<Rank, Option<Arc<AtomicUsize>>> =
            entries.iter().map(|entry| (entry.member.rank, entry.member.in_flight.clone())).collect();
        let (mut members, mut problems) = (Vec::with_capacity(specs.len()), Vec::new());
        for (index, spec) in specs.iter().enumerate() {
            let rank = Rank::of(spec, self.zone);
            let in_flight = in_flight.entry(rank).or_default();
            if in_flight.is_some() != self.counts_in_flight {
                *in_flight = self.counts_in_flight.then(Arc::default);
            }
            let before = known.remove(&spec.borrowed_key()).filter(|before| !before.endpoint().has_left());
            match self.membership(spec, before) {
                Ok(membership) => {
                    let new = Member { membership, spec: spec.clone(), rank, in_flight: in_flight.clone() };
                    let same = before.filter(|before| before.is_same(&new)).cloned();
                    members.push(same.unwrap_or_else(|| Arc::new(new)));
                }
                Err(why) => problems.push((index, why)),
            }
        }
        if problems.is_empty() { Ok(members) } else { Err(problems) }
    }

    fn membership(
        &self,
        spec: &EndpointSpec,
        before: Option<&Arc<Member>>,
    ) -> Result<Arc<Membership>, String> {
        if let Some(before) = before.filter(|_| self.same_way) {
            return Ok(before.membership.clone());
        }
        let mut endpoint = Endpoint::new(&spec.host, spec.port, self.tls, self.authority)?;
        match before {
            Some(before) => endpoint.share = before.endpoint().share.clone(),
            None if self.before.is_some() => endpoint.newness = Newness::since(clock::now()),
            None => {}
        }
        Ok(Arc::new(Membership(Arc::new(endpoint))))
    }
}

impl Member {
    fn is_same(&self, new: &Member) -> bool {
        let same_count = match (&self.in_flight, &new.in_flight) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let same_told = Arc::ptr_eq(&self.spec, &new.spec) || self.spec == new.spec;
        self.is_same_endpoint(new) && same_told && self.rank == new.rank && same_count
    }
}

#[cfg(test)]
impl Member {
    /// A member that is in no set.
    pub(crate) fn alone(spec: EndpointSpec, zone: Option<&str>) -> Arc<Member> {
        let endpoint = Arc::new(Endpoint::new(&spec.host, spec.port, false, None).unwrap());
        let rank = Rank::of(&spec, zone);
        Arc::new(Member {
            membership: Arc::new(Membership(endpoint)),
            spec: Arc::new(spec),
            rank,
            in_flight: None,
        })
    }
}
