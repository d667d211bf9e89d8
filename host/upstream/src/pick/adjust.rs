//! Changes that an operator makes to an endpoint while the gateway runs, without a reload.

use crate::Upstreams;
use crate::balancer::clock;
use crate::observe::events::EventKind;
use crate::set::TableMaking;
use crate::status::EndpointStatus;

/// What is to change. `None` leaves a setting as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointChange {
    /// Whether all earlier changes are discarded first, so that the settings of the file apply again.
    pub reset: bool,
    /// The weight. It applies until the file gives the endpoint another weight than it does now.
    pub weight: Option<u32>,
    /// Whether the endpoint is drained: it takes no new requests, but those in flight are finished.
    pub drain: Option<bool>,
}

/// The largest weight, as in the configuration and for sources.
pub const LARGEST_WEIGHT: u32 = 1_000_000;

/// Changes an endpoint, and returns its state after that. When this returns, the change applies to every request
/// that begins.
///
/// # Errors
/// There is no such upstream or endpoint. The error is a sentence.
pub fn adjust(
    upstreams: &Upstreams,
    upstream: &str,
    address: &str,
    change: &EndpointChange,
) -> Result<EndpointStatus, String> {
    let upstream = upstreams.get(upstream).ok_or_else(|| format!("there is no upstream `{upstream}`"))?;
    let set = upstream.set.load();
    let member = set.members().find(|member| *member.endpoint().name == *address);
    let member = member.ok_or_else(|| format!("upstream `{}` has no endpoint `{address}`", upstream.name))?;
    let (endpoint, spec) = (member.endpoint(), member.spec.weight);
    let record = |kind, why: String| upstream.carried.events.record(kind, Some(&endpoint.name), why);
    if change.reset {
        endpoint.share.reset();
        record(EventKind::EndpointReset, "by hand".to_owned());
    }
    if let Some(weight) = change.weight {
        let weight = weight.min(LARGEST_WEIGHT);
        endpoint.share.set_weight(spec, weight);
        record(EventKind::WeightChanged, format!("by hand, to {weight}"));
    }
    match change.drain.filter(|drain| endpoint.share.set_drained(*drain)) {
        Some(true) => record(EventKind::EndpointDrained, "by hand".to_owned()),
        Some(false) => record(EventKind::EndpointUndrained, "by hand".to_owned()),
        None => {}
    }
    upstream.refresh(clock::now(), TableMaking::AtOnce);
    Ok(upstream.endpoint_status(member))
}
