//! The names that the metrics of the configuration in service are about.

use std::collections::HashSet;

use crate::metrics::{Connections, NONE, OTHERS, Series};
use crate::session::{SessionSeries, labels};

/// The names of the configuration in service. Series of other names are not shown, and are removed by the next reload.
#[derive(Debug, Default)]
pub struct NamesInService {
    listeners: HashSet<Box<str>>,
    routes: HashSet<Box<str>>,
    upstreams: HashSet<Box<str>>,
}

impl NamesInService {
    /// These names.
    pub fn new<'a>(
        listeners: impl IntoIterator<Item = &'a str>,
        routes: impl IntoIterator<Item = &'a str>,
        upstreams: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        NamesInService {
            listeners: listeners.into_iter().map(Box::from).collect(),
            routes: routes.into_iter().map(Box::from).collect(),
            upstreams: upstreams.into_iter().map(Box::from).collect(),
        }
    }

    fn has_listener(&self, name: &str) -> bool {
        is_among(name, &self.listeners)
    }

    pub(super) fn has_route(&self, name: &str) -> bool {
        is_among(name, &self.routes)
    }

    pub(super) fn has_series(&self, series: &Series) -> bool {
        self.has_listener(&series.listener)
            && self.has_route(&series.route)
            && is_among(&series.upstream, &self.upstreams)
    }

    /// A series of names that are gone is shown as long as it has open sessions.
    pub(super) fn has_sessions(&self, key: &str, series: &SessionSeries) -> bool {
        let [(_, listener), (_, route), (_, upstream)] = labels(key);
        let in_service =
            self.has_listener(listener) && self.has_route(route) && is_among(upstream, &self.upstreams);
        in_service || series.open.get() > 0
    }

    /// A listener that is gone is shown as long as connections to it are open.
    pub(super) fn has_connections(&self, listener: &str, connections: &Connections) -> bool {
        self.has_listener(listener) || connections.open.get() > 0
    }
}

/// Whether a name is one of these, or stands for none or for all others.
fn is_among(name: &str, names: &HashSet<Box<str>>) -> bool {
    name == NONE || name == OTHERS || names.contains(name)
}
