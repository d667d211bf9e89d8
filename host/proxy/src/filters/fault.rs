//! Injects faults: delays and refusals, to find out how callers handle them.
//!
//! Choose it to try out timeouts, retries and fallbacks of your clients. It stands next to the upstream, so only
//! callers that may use the service meet it, and its responses pass all stages as an upstream's would. With
//! `when`, only requests that have a certain header are affected. What was injected is in the field `injected` of the
//! access log, in the metric `witgate_injected_faults_total`, and in the span of the request.

use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::sleep_until;
use witgate_config::scalar::{self, Text};
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;

use super::{Filter, FilterKind, Stage, Step, header_name, schema_of};

pub(super) const ROW: FilterKind = FilterKind {
    kind: "fault",
    summary: "injects delays and refusals",
    place: Stage::Origin,
    build,
    schema: schema_of::<Settings>,
};

/// Settings of `fault`: `delay`, `abort` or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Delays requests.
    delay: Option<DelaySettings>,
    /// Refuses requests.
    abort: Option<AbortSettings>,
    /// Only requests with this header are affected; without it, all.
    when: Option<WhenSettings>,
}

/// A delay, before the request goes on or is refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DelaySettings {
    /// How long, e.g. `"2s"`. Ends at the latest at the request's deadline.
    time: Text<scalar::Duration>,
    /// The share of requests, 0 to 1.
    #[serde(default = "everything")]
    #[schemars(range(min = 0.0, max = 1.0))]
    share: f64,
}

/// A refusal with either `status` or `grpc_status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AbortSettings {
    /// The status of the response.
    #[schemars(range(min = 200, max = 599))]
    status: Option<u16>,
    /// The gRPC status of the response, by its number. The response has trailers only.
    #[schemars(range(min = 1, max = 16))]
    grpc_status: Option<u8>,
    /// The share of requests, 0 to 1.
    #[serde(default = "everything")]
    #[schemars(range(min = 0.0, max = 1.0))]
    share: f64,
}

/// A condition on a header.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WhenSettings {
    /// Name of the header.
    header: Text<scalar::HeaderName>,
    /// The exact value; without it, any value.
    value: Option<String>,
}

fn everything() -> f64 {
    1.0
}

fn build(settings: &Written) -> Result<Box<dyn Filter>, Problems> {
    let Settings { delay, abort, when } = settings.parse()?;
    if delay.is_none() && abort.is_none() {
        let hint = Some("set `delay` or `abort`".to_owned());
        return Err(vec![settings.problem("", "this filter does nothing", hint)]);
    }
    let abort = match abort {
        None => None,
        Some(AbortSettings { status, grpc_status, share }) => match (status, grpc_status) {
            (Some(status), None) => Some((Abort::Status(status), share)),
            (None, Some(status)) => Some((Abort::GrpcStatus(status), share)),
            _ => {
                let message = "a refusal has exactly one of `status` and `grpc_status`";
                return Err(vec![settings.problem("/abort", message, None)]);
            }
        },
    };
    Ok(Box::new(Injection {
        delay: delay.map(|delay| (delay.time.value.0, delay.share)),
        abort,
        when: when.map(|when| (header_name(&when.header), when.value)),
    }))
}

struct Injection {
    delay: Option<(Duration, f64)>,
    abort: Option<(Abort, f64)>,
    when: Option<(HeaderName, Option<String>)>,
}

#[derive(Clone, Copy)]
enum Abort {
    Status(u16),
    GrpcStatus(u8),
}

impl Injection {
    fn is_meant(&self, headers: &HeaderMap) -> bool {
        match &self.when {
            None => true,
            Some((name, None)) => headers.contains_key(name),
            Some((name, Some(value))) => {
                headers.get_all(name).iter().any(|given| given.as_bytes() == value.as_bytes())
            }
        }
    }

    /// Until when a request is made to wait, at most until its deadline: whoever finds that it has passed says so.
    fn due(&self, deadline: Option<Instant>) -> Option<Instant> {
        let (time, _) = self.delay.filter(|(_, share)| drawn(*share))?;
        let due = Instant::now() + time;
        Some(deadline.map_or(due, |deadline| deadline.min(due)))
    }
}

impl Filter for Injection {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        if !self.is_meant(&facts.head.headers) {
            return MaybeReady::over(Ok(Step::Proceed(body)));
        }
        let due = self.due(facts.deadline());
        facts.record.injected.delay |= due.is_some();
        let step = match self.abort {
            Some((abort, share)) if drawn(share) => {
                facts.record.injected.abort = true;
                Step::Answer(abort.response())
            }
            _ => Step::Proceed(body),
        };
        match due {
            None => MaybeReady::over(Ok(step)),
            Some(due) => MaybeReady::waiting(async move {
                sleep_until(due.into()).await;
                Ok(step)
            }),
        }
    }
}

fn drawn(share: f64) -> bool {
    share >= 1.0 || fastrand::f64() < share
}

impl Abort {
    fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        match self {
            Abort::Status(status) => {
                *response.status_mut() =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                *response.body_mut() = Body::Full("an injected fault\n".into());
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            Abort::GrpcStatus(status) => {
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
                headers.insert("grpc-message", HeaderValue::from_static("an injected fault"));
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::super::tests::build;
    use super::*;
    use crate::testing;

    /// The response to a request without a body, `None` if it goes on, and how long that took.
    fn meet(settings: Value, headers: &[(&str, &str)]) -> (Option<Response<Body>>, Duration) {
        let filter = build("fault", settings).expect("good settings");
        let mut facts = testing::facts(testing::head(Method::GET, "/", headers));
        facts.limit_time(Some(DEADLINE));
        let begun = Instant::now();
        let answer = match testing::run(filter.request(&mut facts, Body::Empty)) {
            Ok(Step::Answer(response)) => Some(response),
            Ok(Step::Proceed(_)) => None,
            Err(fault) => panic!("{fault}"),
        };
        (answer, begun.elapsed())
    }

    /// The deadline of the requests of [`meet`].
    const DEADLINE: Duration = Duration::from_secs(1);

    #[test]
    fn a_request_waits_and_goes_on_or_is_refused() {
        let (answer, time) = meet(json!({ "delay": { "time": "20ms" } }), &[]);
        assert!(answer.is_none() && time >= Duration::from_millis(20), "{time:?}");
        let (answer, time) = meet(json!({ "delay": { "time": "20ms" }, "abort": { "status": 503 } }), &[]);
        assert_eq!(answer.expect("refused").status().as_u16(), 503);
        assert!(time >= Duration::from_millis(20), "{time:?}");
        let (answer, _) = meet(json!({ "abort": { "grpc_status": 14 } }), &[]);
        let answer = answer.expect("refused");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "14");
    }

    #[test]
    fn nobody_waits_past_the_deadline() {
        let (answer, time) = meet(json!({ "delay": { "time": "1h" } }), &[]);
        assert!(answer.is_none() && time >= DEADLINE, "{time:?}");
    }

    #[test]
    fn only_requests_that_ask_for_it_are_touched() {
        let settings = json!({ "abort": { "status": 500 }, "when": { "header": "X-Fault", "value": "yes" } });
        assert!(meet(settings.clone(), &[]).0.is_none());
        assert!(meet(settings.clone(), &[("x-fault", "no")]).0.is_none());
        assert!(meet(settings, &[("x-fault", "yes")]).0.is_some());
        let any = json!({ "abort": { "status": 500 }, "when": { "header": "x-fault" } });
        assert!(meet(any, &[("x-fault", "no")]).0.is_some());
    }

    #[test]
    fn shares_are_kept() {
        let refused = |share: f64| {
            let settings = json!({ "abort": { "status": 500, "share": share } });
            (0..1000).filter(|_| meet(settings.clone(), &[]).0.is_some()).count()
        };
        assert_eq!(refused(0.0), 0);
        // The tolerance is four standard deviations.
        assert!((300 - 58..=300 + 58).contains(&refused(0.3)));
    }

    #[test]
    fn settings_that_do_nothing_or_two_things_at_once_are_refused() {
        for settings in [
            json!({}),
            json!({ "abort": {} }),
            json!({ "abort": { "status": 500, "grpc_status": 14 } }),
            json!({ "delay": { "time": "1s", "share": 2 } }),
        ] {
            assert!(build("fault", settings.clone()).is_err(), "{settings}");
        }
    }
}
