//! Native filters: each a file and a row of [`FILTERS`].
//!
//! All files have the same parts: what the filter is and when to choose it, its `ROW`, its `Settings`, the filter,
//! tests.

mod access_log;
mod body_limit;
mod compression;
mod cors;
mod fault;
mod headers;
mod ip;
mod request_id;

use std::sync::Arc;

use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use schemars::JsonSchema;
use witgate_config::scalar::{self, Text};
use witgate_config::{Problems, Settings};

use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;
use witgate_exchange::head::RequestHead;

/// A native filter with its settings, shared by all cores. It keeps no state of a request; that is part of the
/// facts.
pub trait Filter: Send + Sync {
    /// Called on the way down. May change the head (`Arc::make_mut`), wrap the body, respond by itself, or refuse. A
    /// filter that does not wait returns [`MaybeReady::over`], which allocates nothing. A filter that waits may be
    /// dropped at any await, because the client has left.
    ///
    /// # Errors
    /// A fault ends the way down. Filters that the request has entered still see the response.
    fn request<'a>(&'a self, _facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        MaybeReady::over(Ok(Step::Proceed(body)))
    }

    /// Called on the way up. At the edge for every response, also that of a request which never came to this filter
    /// because it was malformed, found no route, or was ended by an earlier filter. Next to the upstream for every
    /// response of a request that entered this filter, even if this filter itself responded or refused. May wait
    /// like [`Filter::request`].
    fn response<'a>(
        &'a self,
        _facts: &'a mut Facts,
        response: Response<Body>,
    ) -> MaybeReady<'a, Response<Body>> {
        MaybeReady::over(response)
    }

    /// Called at the edge for a request that could not be read, before its response is. Of its head, the method is `-` and
    /// there are no fields but `Origin`.
    fn unreadable(&self, _facts: &mut Facts) {}

    /// How to recognise the preflights that it responds to; `None` if it responds to none. A preflight takes the
    /// route of the request that it announces, if that route has such a filter, although its own method is another.
    fn preflight(&self) -> Option<Preflight> {
        None
    }
}

/// Finds out which method a request asks about, in the name of a request that is to follow; none: it is no preflight.
pub type Preflight = fn(&RequestHead) -> Option<Method>;

/// Filters in the order in which requests pass them, each with its stage.
pub type Filters = [(Stage, Arc<dyn Filter>)];

/// What a filter decided.
pub enum Step {
    /// Go on with this body.
    Proceed(Body),
    /// Respond with this.
    Answer(Response<Body>),
}

/// Where in the pipeline a filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before every plugin.
    Edge,
    /// After every plugin, next to the upstream.
    Origin,
}

/// A row of the table: one kind of filter.
pub struct FilterKind {
    /// Its name in the configuration.
    pub kind: &'static str,
    /// Its purpose in one sentence.
    pub summary: &'static str,
    /// Its stage. Within a stage, filters run in the order of [`FILTERS`], then as listed in the configuration.
    pub place: Stage,
    /// Parses the settings.
    pub build: fn(&Settings) -> Result<Box<dyn Filter>, Problems>,
    /// The JSON Schema of the settings.
    pub schema: fn() -> serde_json::Value,
}

/// Every native filter, in the order in which they run within their stage.
pub const FILTERS: &[FilterKind] = &[
    request_id::ROW,
    access_log::ROW,
    ip::ROW,
    cors::ROW,
    compression::ROW,
    headers::ROW,
    body_limit::ROW,
    headers::ORIGIN_ROW,
    fault::ROW,
];

/// The row of a kind.
pub fn find(kind: &str) -> Option<&'static FilterKind> {
    FILTERS.iter().find(|row| row.kind == kind)
}

/// Converts a header name of settings.
fn header_name(written: &Text<scalar::HeaderName>) -> HeaderName {
    HeaderName::from_bytes(written.value.0.as_bytes()).expect("checked when it was read")
}

/// The JSON Schema of a type of settings.
fn schema_of<T: JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(T).to_value()
}

/// Adds a request header to `Vary` (RFC 9110 section 12.5.5) unless it is there.
fn vary(headers: &mut HeaderMap, name: &'static str) {
    let said = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|field| field == "*" || field.eq_ignore_ascii_case(name))
    });
    if !said {
        headers.append(VARY, HeaderValue::from_static(name));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn every_row_has_a_kind_of_its_own_and_settings_that_refuse_unknown_keys() {
        for (index, row) in FILTERS.iter().enumerate() {
            assert!(FILTERS[..index].iter().all(|other| other.kind != row.kind), "{}", row.kind);
            assert_eq!((row.schema)()["additionalProperties"], false, "{}", row.kind);
            assert!(build(row.kind, serde_json::json!({ "no such key": 1 })).is_err(), "{}", row.kind);
        }
    }

    #[test]
    fn vary_is_said_once() {
        let mut headers = HeaderMap::new();
        vary(&mut headers, "origin");
        vary(&mut headers, "origin");
        vary(&mut headers, "accept-encoding");
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["origin", "accept-encoding"]);
    }

    /// The decision of a filter that does not wait about a request.
    pub(super) fn request(filter: &dyn Filter, facts: &mut Facts, body: Body) -> Result<Step, Fault> {
        filter.request(facts, body).now_or_never().expect("it does not wait")
    }

    /// The response after a filter that does not wait.
    pub(super) fn response(
        filter: &dyn Filter,
        facts: &mut Facts,
        response: Response<Body>,
    ) -> Response<Body> {
        filter.response(facts, response).now_or_never().expect("it does not wait")
    }

    /// Builds a filter of this kind as the configuration would.
    pub(super) fn build(kind: &str, settings: serde_json::Value) -> Result<Box<dyn Filter>, Problems> {
        let serde_json::Value::Object(value) = settings else { panic!("settings are an object") };
        (find(kind).expect("a known kind").build)(&Settings::unwritten("filters[0]", value))
    }
}
