//! Which route a request takes, by specificity.

pub mod action;

use std::sync::Arc;

use witgate_config::model;

use crate::filters::{Filter, Place};
use crate::head::RequestHead;
use crate::pipeline::plugin::Plugin;

/// A route with everything it needs resolved.
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// What it was configured as.
    pub config: model::Route,
    /// Filters of gateway, listener and route, in the order of the way down.
    pub filters: Vec<(Place, Arc<dyn Filter>)>,
    /// Bindings that authenticate.
    pub authentication: Vec<Arc<dyn Plugin>>,
    /// Bindings that limit rates.
    pub rate_limiting: Vec<Arc<dyn Plugin>>,
    /// Bindings that route.
    pub routing: Vec<Arc<dyn Plugin>>,
    /// Bindings that transform.
    pub transformation: Vec<Arc<dyn Plugin>>,
}

/// What the router found.
pub enum Found {
    /// A route, with its path parameters.
    Route(Arc<Route>, Vec<(Arc<str>, String)>),
    /// Routes for this path, but only for these methods (for `Allow`).
    OtherMethods(Vec<String>),
    /// Nothing.
    Nothing,
}

/// The routes of one listener.
#[derive(Default)]
pub struct Router {}

impl Router {
    /// Builds the router of a listener.
    pub fn new(_routes: Vec<Arc<Route>>) -> Self {
        todo!("router")
    }

    /// Finds the most specific route for a head.
    pub fn find(&self, _head: &RequestHead) -> Found {
        todo!("router")
    }
}
