//! Where the endpoints of an upstream come from.
//!
//! A [`Source`] passes whole sets of endpoints, or differences, to a [`Sink`]. The sink validates them and keeps
//! the last good set. The [keeper](super::keeper) puts that set in service: at once if the last change was more
//! than a second ago, otherwise when that second is over. Sources run on the keeper's thread or on a thread of
//! their own ([`SourceThread`]), never on a core.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | the fixed list | [`fixed`] | endpoints as they are written |
//! | sink | [`sink`] | receives the sets of a source; validation, last good set, age, last error |
//! | allowed addresses | [`allow`] | which addresses a source may give |
//! | running | [`run`] | the thread of a source, and the pauses after failures |
//! | saving | [`save`] | passes the last good set on to the next process |
//!
//! All other sources come from outside of this crate, as rows of [`Discovery::sources`].

pub mod allow;
mod fixed;
pub(crate) mod run;
pub(crate) mod save;
pub mod sink;
mod system;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use witgate_config::{Problem, Problems, model};
pub use witgate_exchange::contracts::discovery::{
    Difference, EndpointSink, EndpointSpec, Key, Readiness, Refused, Resolver, Run, SavedSets, Source,
    SourceKind, SourceThread,
};

pub use allow::{Allow, OwnAddresses};
pub use sink::{Limits, Sink, SinkStatus};

/// What upstreams need in order to discover endpoints. The default knows only fixed lists, and has the system look
/// up host names.
#[derive(Clone)]
pub struct Discovery {
    /// The kinds of sources of this build.
    pub sources: &'static [SourceKind],
    /// Looks up the host names of fixed lists.
    pub resolver: Arc<dyn Resolver>,
    /// The addresses of the gateway itself, which no source may give.
    pub own: OwnAddresses,
    /// Keeps the last good sets for the next process. `None`: they are not kept.
    pub saved: Option<Arc<dyn SavedSets>>,
}

impl Default for Discovery {
    fn default() -> Self {
        Discovery {
            sources: &[],
            resolver: Arc::new(system::SystemResolver),
            own: OwnAddresses::default(),
            saved: None,
        }
    }
}

/// A source that has been built but not started.
pub(crate) struct BuiltSource {
    pub(crate) source: Box<dyn Source>,
    pub(crate) thread: SourceThread,
    /// The name of the source. `None` for the fixed list, which has no state that could be shown.
    pub(crate) kind: Option<&'static str>,
    /// Which of its sets are accepted.
    pub(crate) limits: Limits,
    /// The last good set of an earlier process, until the source has reported one, and its age.
    pub(crate) restored: Option<(EndpointSpecs, Duration)>,
}

impl BuiltSource {
    /// The set with which the upstream starts. What a source other than the fixed list knows is checked.
    pub(crate) fn known(&self) -> Vec<Arc<EndpointSpec>> {
        let known = self.source.known();
        match self.kind {
            None => known.into_iter().map(Arc::new).collect(),
            Some(_) => self.limits.screen(known),
        }
    }

    /// Takes the last good set of an earlier process, if there is one that is within the limits.
    pub(crate) fn restore(&mut self, name: &str, config: &model::Upstream, discovery: &Discovery) {
        let Some((discover, saved)) = config.discover.as_ref().zip(discovery.saved.as_ref()) else { return };
        if let Some(set) = saved.load(name, &discover.source) {
            let fit = self.limits.screen(set.endpoints);
            self.restored = (!fit.is_empty()).then(|| (fit.into(), set.age));
        }
    }

    /// The endpoints of a set that this source may report too.
    pub(crate) fn allowed(&self, set: &EndpointSpecs) -> EndpointSpecs {
        let allow = &self.limits.allow;
        let is_allowed = |spec: &&Arc<EndpointSpec>| allow.check(&spec.host, spec.port).is_ok();
        set.iter().filter(|spec| self.kind.is_none() || is_allowed(spec)).cloned().collect()
    }
}

/// Builds the source of an upstream.
///
/// # Errors
/// This build has no such source, or its settings cannot be used.
pub(crate) fn build(
    name: &str,
    config: &model::Upstream,
    discovery: &Discovery,
) -> Result<BuiltSource, Problems> {
    let Some(discover) = &config.discover else { return Ok(fixed::build(config)) };
    let kind = discover.source.kind();
    let Some(row) = discovery.sources.iter().find(|row| row.kind == kind) else {
        return Err(vec![unknown_source(name, kind)]);
    };
    let limits = Limits::of(discover, discovery.own.clone());
    let source = (row.build)(&discover.source).map_err(|problems| {
        let key = |problem: &Problem| format!("upstreams.{name}.discover.{kind}.{}", problem.key);
        let placed = |problem: Problem| Problem { key: key(&problem), ..problem };
        problems.into_iter().map(placed).collect::<Problems>()
    })?;
    Ok(BuiltSource { source, thread: row.thread, kind: Some(kind), limits, restored: None })
}

fn unknown_source(upstream: &str, kind: &str) -> Problem {
    Problem {
        message: format!("this build of the gateway has no source of endpoints `{kind}`"),
        span: None,
        key: format!("upstreams.{upstream}.discover.{kind}"),
        hint: Some(format!("build it with the Cargo feature `discovery-{kind}`, or use another source")),
    }
}

/// A set of endpoints, in the order in which the status lists them.
pub(crate) type EndpointSpecs = Arc<[Arc<EndpointSpec>]>;
