//! Members of a set, and how they are made of what is told.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::EndpointSet;
use crate::balancer::{Candidate, clock};
use crate::upstream::discovery::EndpointSpec;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::slow_start::Newness;

/// An endpoint, and what was told of it.
pub(in crate::upstream) struct Member {
    membership: Arc<Membership>,
    pub(in crate::upstream) spec: Arc<EndpointSpec>,
    pub(in crate::upstream) rank: Rank,
    /// Requests in flight in its group, over all cores; none if the policy does not want to know.
    pub(in crate::upstream) in_flight: Option<Arc<AtomicUsize>>,
}

/// Held by the members of an endpoint. With the last, the endpoint has left: also where a reload took its upstream away.
struct Membership(Arc<Endpoint>);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Which group an endpoint belongs to, in their order: by priority, and in a priority those in the gateway's zone first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::upstream) struct Rank {
    priority: u32,
    elsewhere: bool,
}

impl Rank {
    /// That of an endpoint, where the gateway is in this zone; none: in no zone.
    pub(in crate::upstream) fn of(spec: &EndpointSpec, zone: Option<&str>) -> Rank {
        Rank { priority: spec.priority, elsewhere: zone.is_some() && spec.zone.as_deref() != zone }
    }
}

impl Member {
    /// The endpoint.
    pub(in crate::upstream) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.membership.0
    }

    /// Its weight: as told, or what an operator has said since.
    pub(in crate::upstream) fn weight(&self) -> u32 {
        self.endpoint().share.weight(self.spec.weight)
    }

    /// Whether its operator and its source want it to take requests, whatever its breaker and its checks say.
    pub(in crate::upstream) fn is_wanted(&self) -> bool {
        self.weight() > 0 && self.endpoint().is_wanted()
    }

    /// Whether both are the same endpoint, whatever was told of it.
    pub(in crate::upstream) fn is_same_endpoint(&self, other: &Member) -> bool {
        Arc::ptr_eq(self.endpoint(), other.endpoint())
    }

    /// As a balancer sees it.
    pub(in crate::upstream) fn candidate(&self, weight: u32) -> Candidate {
        let endpoint = self.endpoint();
        Candidate {
            name: endpoint.name.clone(),
            weight,
            active: endpoint.active.clone(),
            latency: endpoint.latency.clone(),
        }
    }

    /// Requests in flight in its group, if the policy wants to know.
    pub(in crate::upstream) fn group_in_flight(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |in_flight| in_flight.load(Ordering::Relaxed))
    }
}

/// How members are made of what is told.
pub(in crate::upstream) struct MemberBuilder<'a> {
    /// The gateway's zone.
    pub(in crate::upstream) zone: Option<&'a str>,
    /// Whether the endpoints are spoken to by TLS.
    pub(in crate::upstream) tls: bool,
    /// Whether the policy wants to know how many requests are in flight in a group.
    pub(in crate::upstream) counts_in_flight: bool,
    /// The set before; none: the upstream is new, and its endpoints are all equally new.
    pub(in crate::upstream) before: Option<&'a EndpointSet>,
    /// Whether those of the set before are reached in the same way. If not, endpoints are new, but what an operator has said
    /// about them still holds.
    pub(in crate::upstream) same_way: bool,
}

impl MemberBuilder<'_> {
    /// Makes the members. What is known of an endpoint that stays is carried over with it.
    ///
    /// # Errors
    /// Hosts that cannot be any, with their place in the list.
    pub(in crate::upstream) fn members(
        &self,
        spec: &[Arc<EndpointSpec>],
    ) -> Result<Vec<Arc<Member>>, Vec<(usize, String)>> {
        let entries = self.before.map_or(&[][..], |before| &before.entries);
        let mut known: HashMap<_, &Arc<Member>> =
            entries.iter().map(|entry| (entry.member.spec.borrowed_key(), &entry.member)).collect();
        let mut in_flight: BTreeMap<Rank, Option<Arc<AtomicUsize>>> =
            entries.iter().map(|entry| (entry.member.rank, entry.member.in_flight.clone())).collect();
        let (mut members, mut problems) = (Vec::with_capacity(spec.len()), Vec::new());
        for (index, spec) in spec.iter().enumerate() {
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
        let mut endpoint = Endpoint::new(&spec.host, spec.port, self.tls)?;
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
    /// One of no set.
    pub(in crate::upstream) fn alone(spec: EndpointSpec, zone: Option<&str>) -> Arc<Member> {
        let endpoint = Arc::new(Endpoint::new(&spec.host, spec.port, false).unwrap());
        let rank = Rank::of(&spec, zone);
        Arc::new(Member {
            membership: Arc::new(Membership(endpoint)),
            spec: Arc::new(spec),
            rank,
            in_flight: None,
        })
    }
}
