//! Chooses what is written to the access log for a route.
//!
//! Without this filter every request is written, without query string and headers. Choose it to silence health
//! checks, to write only a sample of a busy route, or to add headers. Sampling never leaves out what went wrong:
//! faults, statuses from 500, and incomplete responses are always written.

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{HeaderName as Name, Text};
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;
use witgate_exchange::record::{AccessLog, Share};

use super::{Filter, FilterKind, Stage, Step, header_name, schema_of};

pub(super) const ROW: FilterKind = FilterKind {
    kind: "access-log",
    summary: "chooses what is written to the access log for a route",
    place: Stage::Edge,
    build,
    schema: schema_of::<Settings>,
};

/// Headers that hold credentials, which are never written: more people can read a log than may know them.
const SECRETS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// Settings of `access-log`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Whether anything is written at all.
    #[serde(default = "default_enabled")]
    enabled: bool,
    /// The share of successful requests that is written, 0 to 1. Failures are always written.
    #[serde(default = "default_sample")]
    #[schemars(range(min = 0.0, max = 1.0))]
    sample: f64,
    /// Whether the query string is written.
    #[serde(default)]
    query: bool,
    /// Request headers that are written. Headers that hold credentials are refused.
    #[serde(default)]
    headers: Vec<Text<Name>>,
}

fn default_enabled() -> bool {
    true
}

fn default_sample() -> f64 {
    1.0
}

fn build(settings: &Written) -> Result<Box<dyn Filter>, Problems> {
    let Settings { enabled, sample, query, headers } = settings.parse()?;
    let mut problems = Problems::new();
    let headers: Vec<HeaderName> = headers.iter().map(header_name).collect();
    for (index, name) in headers.iter().enumerate().filter(|(_, name)| SECRETS.contains(name)) {
        let message = format!("`{name}` carries credentials and is never logged");
        problems.push(settings.problem(&format!("/headers/{index}"), message, None));
    }
    if problems.is_empty() { Ok(Box::new(Choice { enabled, sample, query, headers })) } else { Err(problems) }
}

struct Choice {
    enabled: bool,
    sample: f64,
    query: bool,
    headers: Vec<HeaderName>,
}

impl Choice {
    fn choose(&self, facts: &mut Facts) {
        let share = match self.enabled {
            false => Share::Nothing,
            true if self.sample >= 1.0 || fastrand::f64() < self.sample => Share::Everything,
            true => Share::Failures,
        };
        let given = &facts.head.headers;
        let headers = self
            .headers
            .iter()
            .flat_map(|name| given.get_all(name).iter().map(|value| (name.clone(), value.clone())));
        facts.record.access_log = AccessLog { share, query: self.query, headers: headers.collect() };
    }
}

impl Filter for Choice {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        self.choose(facts);
        MaybeReady::over(Ok(Step::Proceed(body)))
    }

    fn unreadable(&self, facts: &mut Facts) {
        self.choose(facts);
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;
    use witgate_exchange::body::Body;
    use witgate_exchange::record::Share;

    use super::super::tests::{build, request};
    use crate::testing;

    fn share(settings: serde_json::Value) -> Share {
        let filter = build("access-log", settings).expect("good settings");
        let mut facts = testing::facts(testing::head(Method::GET, "/", &[]));
        request(&*filter, &mut facts, Body::Empty).expect("no fault");
        facts.record.access_log.share
    }

    #[test]
    fn the_share_is_as_set() {
        assert_eq!(share(json!({})), Share::Everything);
        assert_eq!(share(json!({ "sample": 0.0 })), Share::Failures);
        assert_eq!(share(json!({ "enabled": false })), Share::Nothing);
    }

    #[test]
    fn headers_are_taken_as_they_came_in() {
        let filter = build("access-log", json!({ "headers": ["x-tenant"] })).expect("good settings");
        let head = testing::head(Method::GET, "/", &[("x-tenant", "a"), ("x-tenant", "b"), ("x-other", "c")]);
        let mut facts = testing::facts(head);
        request(&*filter, &mut facts, Body::Empty).expect("no fault");
        let values: Vec<_> = facts.record.access_log.headers.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(values, ["a", "b"]);
    }

    #[test]
    fn credentials_are_refused() {
        let problems = build("access-log", json!({ "headers": ["x-tenant", "Authorization"] }))
            .err()
            .expect("a problem");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.contains("credentials"));
    }
}
