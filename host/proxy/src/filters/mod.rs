//! Native filters: each a file and a row of [`FILTERS`].

use http::Response;
use witgate_config::{Problems, Settings};

use crate::body::Body;
use crate::fault::Fault;
use crate::pipeline::exchange::Exchange;

/// A native filter with its settings, shared by all cores. It keeps no state of a request: that lives in the exchange.
pub trait Filter: Send + Sync {
    /// Called on the way down. May change the head (`Arc::make_mut`), wrap the body, answer by itself, or refuse.
    ///
    /// # Errors
    /// A fault ends the way down; filters already entered still see the response.
    fn request(&self, _exchange: &mut Exchange, body: Body) -> Result<Step, Fault> {
        Ok(Step::Proceed(body))
    }

    /// Called on the way up, for every response of a request that entered this filter: also if it was this filter
    /// that answered or refused.
    fn response(&self, _exchange: &mut Exchange, response: Response<Body>) -> Response<Body> {
        response
    }
}

/// What a filter decided.
pub enum Step {
    /// Go on with this body.
    Proceed(Body),
    /// Answer with this.
    Answer(Response<Body>),
}

/// Where a filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before every plugin.
    Edge,
    /// After every plugin, next to the upstream.
    Origin,
}

/// A row of the table: one kind of filter.
pub struct FilterKind {
    /// The name in the configuration.
    pub kind: &'static str,
    /// What it is for, in one sentence.
    pub summary: &'static str,
    /// Where it stands. Inside a place, filters run in the order of [`FILTERS`], then as listed.
    pub place: Place,
    /// Parses the settings.
    pub build: fn(&Settings) -> Result<Box<dyn Filter>, Problems>,
    /// JSON Schema of the settings.
    pub schema: fn() -> serde_json::Value,
}

/// Every native filter, in the order in which they run inside their place.
pub const FILTERS: &[FilterKind] = &[];
