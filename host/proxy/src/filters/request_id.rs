//! Carries the request id in another header, or accepts ids from other callers.
//!
//! Without this filter, every request has an id too: the `x-request-id` of a trusted proxy, or a new one, is sent
//! to the upstream, to the client and to the log. Choose this filter where your services use another header, or
//! where clients that are not proxies may send their own ids.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{HeaderName as Name, Text};
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;
use witgate_exchange::trace;

use super::{Filter, FilterKind, Stage, Step, header_name, schema_of};

pub(super) const ROW: FilterKind = FilterKind {
    kind: "request-id",
    summary: "carries the request id in another header, or accepts ids from other callers",
    place: Stage::Edge,
    build,
    schema: schema_of::<Settings>,
};

/// Settings of `request-id`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The header that carries the id besides `x-request-id`: upstream, to the client, and when it is accepted.
    #[serde(default = "default_header")]
    header: Text<Name>,
    /// Whose request ids are accepted.
    #[serde(default)]
    trust: Trust,
}

fn default_header() -> Text<Name> {
    Text::of(trace::REQUEST_ID.as_str())
}

/// Whose request ids are accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Trust {
    /// Those of trusted proxies.
    #[default]
    Proxies,
    /// Those of every client.
    Anyone,
    /// Nobody's: every request gets a new id.
    Nobody,
}

fn build(settings: &Written) -> Result<Box<dyn Filter>, Problems> {
    let Settings { header, trust } = settings.parse()?;
    Ok(Box::new(RequestId { header: header_name(&header), trust }))
}

struct RequestId {
    header: HeaderName,
    trust: Trust,
}

impl Filter for RequestId {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        let believed = match self.trust {
            Trust::Anyone => true,
            Trust::Proxies => facts.trusted_peer,
            Trust::Nobody => false,
        };
        let head = Arc::make_mut(&mut facts.head);
        head.request_id = trace::request_id_in(&head.headers, &self.header, believed);
        if let Ok(id) = HeaderValue::from_str(&head.request_id) {
            head.headers.insert(self.header.clone(), id);
        }
        MaybeReady::over(Ok(Step::Proceed(body)))
    }

    fn response<'a>(
        &'a self,
        facts: &'a mut Facts,
        mut response: Response<Body>,
    ) -> MaybeReady<'a, Response<Body>> {
        if let Ok(id) = HeaderValue::from_str(&facts.head.request_id) {
            response.headers_mut().insert(self.header.clone(), id);
        }
        MaybeReady::over(response)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;
    use witgate_exchange::body::Body;

    use super::super::tests::{build, request, response};
    use crate::testing;

    #[test]
    fn an_id_is_believed_from_whom_the_settings_say() {
        for (trust, trusted_peer, taken) in [
            ("anyone", false, true),
            ("proxies", false, false),
            ("proxies", true, true),
            ("nobody", true, false),
        ] {
            let filter =
                build("request-id", json!({ "header": "x-correlation-id", "trust": trust })).expect("good");
            let head = testing::head(Method::GET, "/", &[("x-correlation-id", "given")]);
            let mut facts = testing::facts(head);
            facts.trusted_peer = trusted_peer;
            request(&*filter, &mut facts, Body::Empty).expect("no fault");
            assert_eq!(&*facts.head.request_id == "given", taken, "{trust}");
            let upstream = facts.head.headers["x-correlation-id"].clone();
            assert_eq!(upstream.to_str().expect("ASCII"), &*facts.head.request_id);
            let response = response(&*filter, &mut facts, testing::response(&[], ""));
            assert_eq!(response.headers()["x-correlation-id"], upstream);
        }
    }

    #[test]
    fn a_header_that_is_no_name_is_refused() {
        let problems = build("request-id", json!({ "header": "x id" })).err().expect("a problem");
        assert!(problems[0].key.ends_with("header"), "{problems:?}");
    }
}
