//! Everything of an upstream that survives a reload, in one place.
//!
//! | what | survives | where |
//! |---|---|---|
//! | the upstream as a whole | if neither its settings nor its TLS files nor the zone of the gateway have changed | [`Upstream::build`] |
//! | the count of connections, and the queue for them | always | [`Carried::limit`] |
//! | the breaker of the upstream as a whole, permits for requests, load shedding | always | [`Carried::admissions`] |
//! | events and their counts | always | [`Carried::events`] |
//! | the time of the next comparison of success rates | always | [`Carried::ejections`] |
//! | the retry budget, counts of retries and hedges | always | [`Carried::tries`] |
//! | the running source | if its settings are the same | [`Previous::source`] |
//! | the last good set of a source | until another source has reported one | [`Carried::sink`] |
//! | the balancing policy and its turn | if its settings are the same | [`Previous::policy`] |
//! | endpoints: breaker, health, ejection, latency, pools | if the source still reports them, and protocol and TLS are the same | [`Previous::set`] |
//! | weight and drain of an endpoint that an operator has set | if the source still reports the endpoint | [`Previous::set`] |
//! | stored responses of `fallback` | if their settings are the same | [`Fallback::build`] |
//! | TLS with its session tickets | if its files are the same | [`Tls::build`] |

use std::sync::Arc;

use witgate_config::model;

use super::admission::Admissions;
use super::deliver::Tries;
use super::discovery::Sink;
use super::fallback::Fallback;
use super::set::EndpointSet;
use super::{SourceSlot, Upstream};
use crate::balancer::Policy;
use crate::connection::limit::Limit;
use crate::connection::tls::Tls;
use crate::observe::ejection::Ejections;
use crate::observe::events::Events;

/// What survives every reload, by the name of the upstream. All versions of the upstream share it.
#[derive(Clone)]
pub(crate) struct Carried {
    pub(crate) limit: Arc<Limit>,
    pub(crate) admissions: Arc<Admissions>,
    pub(crate) events: Arc<Events>,
    pub(crate) ejections: Arc<Ejections>,
    pub(crate) tries: Arc<Tries>,
    pub(crate) sink: Sink,
}

impl Default for Carried {
    fn default() -> Self {
        let events = Arc::<Events>::default();
        Carried {
            limit: Arc::default(),
            admissions: Arc::default(),
            sink: Sink::new(events.clone()),
            events,
            ejections: Arc::default(),
            tries: Arc::default(),
        }
    }
}

/// What the previous version of the upstream offers. Everything is `None` if the upstream is new.
#[derive(Default)]
pub(crate) struct Previous<'a> {
    pub(crate) fallback: Option<&'a Fallback>,
    pub(crate) tls: Option<&'a Tls>,
    /// Only if the settings of the balancing policy are the same.
    pub(crate) policy: Option<Arc<dyn Policy>>,
    /// The set in service.
    pub(crate) set: Option<Arc<EndpointSet>>,
    /// Only if its settings are the same: then it keeps running.
    pub(crate) source: Option<SourceSlot>,
    /// The previous version itself, if its settings are the same.
    pub(crate) unchanged: Option<&'a Arc<Upstream>>,
    protocol: Option<model::UpstreamProtocol>,
}

impl Previous<'_> {
    /// Whether protocol and TLS are those of the previous version.
    pub(crate) fn is_reached_by(&self, config: &model::Upstream, tls: Option<&Tls>) -> bool {
        self.protocol == Some(config.protocol)
            && self.tls.map(|before| before.digest) == tls.map(|tls| tls.digest)
    }
}

/// What survives always, and what may survive.
pub(crate) fn carry<'a>(
    previous: Option<&'a Arc<Upstream>>,
    config: &model::Upstream,
    zone: Option<&str>,
) -> (Carried, Previous<'a>) {
    let Some(previous) = previous else { return (Carried::default(), Previous::default()) };
    let same_balancer = previous.config.balancer == config.balancer;
    let same_source =
        previous.config.endpoints == config.endpoints && previous.config.discover == config.discover;
    let same = previous.config == *config && previous.zone.as_deref() == zone;
    let of_previous = Previous {
        fallback: previous.fallback.as_ref(),
        tls: previous.tls.as_ref(),
        policy: same_balancer.then(|| previous.policy.clone()),
        set: Some(previous.set.load_full()),
        source: same_source.then(|| previous.source.clone()),
        unchanged: same.then_some(previous),
        protocol: Some(previous.config.protocol),
    };
    (previous.carried.clone(), of_previous)
}
