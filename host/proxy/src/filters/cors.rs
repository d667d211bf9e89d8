//! Cross-Origin Resource Sharing (Fetch standard): the web pages of other origins that may call.
//!
//! Choose it where browsers call your services from pages of another origin. The filter responds to preflights
//! before authentication, because browsers send them without credentials. CORS headers of an upstream are
//! replaced.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{Duration, HeaderName as Name, Method as Token, Text};
use witgate_config::{Problem, Problems, Settings as Written};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Dialect, Fault};
use witgate_exchange::head::RequestHead;

use super::{Filter, FilterKind, Preflight, Stage, Step, schema_of, vary};

pub(super) const ROW: FilterKind = FilterKind {
    kind: "cors",
    summary: "allows web pages of other origins to call (CORS)",
    place: Stage::Edge,
    build,
    schema: schema_of::<Settings>,
};

/// Settings of `cors`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Origins that may call: `https://app.example`, `https://*.example` for every name below, or `*` for all.
    origins: Vec<String>,
    /// Methods that these origins may use.
    #[serde(default = "default_methods")]
    methods: Vec<Text<Token>>,
    /// Request headers that pages may set besides the simple ones; `*`: all that they ask for.
    #[serde(default)]
    headers: Vec<Text<Name>>,
    /// Response headers that pages may read besides the simple ones. Those with the status of gRPC are added for callers
    /// of gRPC-Web.
    #[serde(default)]
    expose: Vec<Text<Name>>,
    /// Whether pages may send cookies and client certificates. Not allowed with `*` in `origins`.
    #[serde(default)]
    credentials: bool,
    /// How long browsers may cache a preflight, e.g. `"10m"`. Without it, the browser decides.
    max_age: Option<Text<Duration>>,
}

fn default_methods() -> Vec<Text<Token>> {
    ["GET", "HEAD", "POST"].map(Text::of).into()
}

fn build(settings: &Written) -> Result<Box<dyn Filter>, Problems> {
    let written: Settings = settings.parse()?;
    let mut problems = Problems::new();
    let mut origins = Vec::new();
    for (index, text) in written.origins.iter().enumerate() {
        match Allowed::parse(text) {
            Some(origin) => origins.push(origin),
            None => problems.push(not_an_origin(settings, index, text)),
        }
    }
    if written.credentials && written.origins.iter().any(|origin| origin == "*") {
        let hint = Some("name the origins, or leave `credentials` out".to_owned());
        let message = "with credentials every web page could act as your users";
        problems.push(settings.problem("/origins", message, hint));
    }
    let methods: Vec<&str> = written.methods.iter().map(|method| method.value.0.as_str()).collect();
    let headers = names(&written.headers);
    let filter = Cors {
        origins,
        methods: list(&methods),
        headers: if headers.contains(&"*") { Headers::Any } else { Headers::These(list(&headers)) },
        expose: list(&names(&written.expose)),
        credentials: written.credentials,
        max_age: written.max_age.map(|age| HeaderValue::from(age.value.0.as_secs())),
    };
    if problems.is_empty() { Ok(Box::new(filter)) } else { Err(problems) }
}

fn names(written: &[Text<Name>]) -> Vec<&str> {
    written.iter().map(|name| name.value.0.as_str()).collect()
}

/// A list as one header value; `None` if it is empty.
fn list(tokens: &[&str]) -> Option<HeaderValue> {
    let joined = HeaderValue::from_str(&tokens.join(", ")).expect("tokens are visible characters");
    (!tokens.is_empty()).then_some(joined)
}

fn not_an_origin(settings: &Written, index: usize, text: &str) -> Problem {
    let hint = "an origin is scheme and host, and a port that is not the scheme's own: `https://app.example`";
    settings.problem(
        &format!("/origins/{index}"),
        format!("`{text}` is not an origin"),
        Some(hint.to_owned()),
    )
}

/// An allowed origin, or a pattern of them.
#[derive(Debug, PartialEq, Eq)]
enum Allowed {
    Any,
    Exactly(String),
    /// `https://*.example`: the scheme with `://`, and what follows the first label, with its dot.
    Below(String, String),
}

impl Allowed {
    /// Parses an origin. Origins are compared as strings (RFC 6454 section 6.1), so a form that no browser sends
    /// is refused.
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Allowed::Any);
        }
        let (scheme, host) = text.split_once("://")?;
        let host_is_good = |host: &str| {
            let good =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]_".contains(&byte);
            !host.is_empty() && host.bytes().all(good)
        };
        let scheme_is_good = !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || b"+-.".contains(&byte));
        let default_port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => "\0",
        };
        if !scheme_is_good || host.ends_with(default_port) {
            return None;
        }
        match host.strip_prefix("*.") {
            Some(parent) => {
                host_is_good(parent).then(|| Allowed::Below(format!("{scheme}://"), format!(".{parent}")))
            }
            None => host_is_good(host).then(|| Allowed::Exactly(text.to_owned())),
        }
    }

    fn admits(&self, origin: &str) -> bool {
        match self {
            Allowed::Any => true,
            Allowed::Exactly(allowed) => origin == allowed,
            Allowed::Below(scheme, parent) => {
                let labels =
                    origin.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(parent.as_str()));
                let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                labels.is_some_and(|labels| !labels.is_empty() && labels.bytes().all(good))
            }
        }
    }
}

/// The request headers that a page may set.
enum Headers {
    Any,
    These(Option<HeaderValue>),
}

struct Cors {
    origins: Vec<Allowed>,
    methods: Option<HeaderValue>,
    headers: Headers,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

/// The method that a preflight announces (Fetch, section 3.3.1); `None` if the request is not a preflight.
fn preflight(head: &RequestHead) -> Option<&HeaderValue> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(ORIGIN) {
        return None;
    }
    head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What pages must be able to read of the response of gRPC-Web that has its status in the headers.
const OF_GRPC_WEB: &str = "grpc-status, grpc-message, grpc-status-details-bin";

impl Cors {
    fn allows_any(&self) -> bool {
        self.origins.contains(&Allowed::Any)
    }

    /// The origin of the request, if it may call.
    fn admitted<'a>(&self, head: &'a RequestHead) -> Option<&'a HeaderValue> {
        let origin = head.headers.get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.origins.iter().any(|allowed| allowed.admits(text)).then_some(origin)
    }

    /// Sets the headers that responses to preflights and to other requests share.
    fn allow(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        let origin = if self.allows_any() { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Replaces the CORS headers of the upstream. Those of the response to a preflight were made here and stay.
    fn tell(&self, facts: &Facts, headers: &mut HeaderMap) {
        let head = &facts.head;
        if !self.allows_any() {
            vary(headers, "origin");
        }
        if preflight(head).is_some() {
            return;
        }
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        if let Some(origin) = self.admitted(head) {
            self.allow(origin, headers);
            if let Some(expose) = &self.expose {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
            }
            if matches!(facts.dialect, Dialect::GrpcWeb(_)) {
                headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(OF_GRPC_WEB));
            }
        }
    }

    /// Responds to a preflight. A refused one gets a response without CORS headers, which browsers take as a
    /// refusal.
    fn answer_preflight(&self, head: &RequestHead) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if let Some(origin) = self.admitted(head) {
            self.allow(origin, headers);
            if let Some(methods) = &self.methods {
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
            }
            let allowed = match &self.headers {
                Headers::Any => head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS),
                Headers::These(names) => names.as_ref(),
            };
            if let Some(allowed) = allowed {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
            }
            if let Some(age) = &self.max_age {
                headers.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
            }
        }
        for name in ["access-control-request-method", "access-control-request-headers"] {
            vary(headers, name);
        }
        response
    }
}

impl Filter for Cors {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        MaybeReady::over(Ok(match preflight(&facts.head) {
            Some(_) => Step::Answer(self.answer_preflight(&facts.head)),
            None => Step::Proceed(body),
        }))
    }

    fn response<'a>(
        &'a self,
        facts: &'a mut Facts,
        mut response: Response<Body>,
    ) -> MaybeReady<'a, Response<Body>> {
        self.tell(facts, response.headers_mut());
        MaybeReady::over(response)
    }

    fn preflight(&self) -> Option<Preflight> {
        Some(|head| Method::from_bytes(preflight(head)?.as_bytes()).ok())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{build, request, response};
    use super::*;
    use crate::testing;

    fn settings() -> Value {
        json!({
            "origins": ["https://app.example", "https://*.partner.example"],
            "headers": ["x-tenant"],
            "expose": ["x-total"],
            "credentials": true,
            "max_age": "10m",
        })
    }

    fn preflight_of(settings: Value, origin: &str) -> Response<Body> {
        let filter = build("cors", settings).expect("good settings");
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-a, x-b"),
        ];
        let mut facts = testing::facts(testing::head(Method::OPTIONS, "/", &headers));
        match request(&*filter, &mut facts, Body::Empty).expect("no fault") {
            Step::Answer(own) => response(&*filter, &mut facts, own),
            Step::Proceed(_) => panic!("a preflight is answered"),
        }
    }

    fn answer_to(settings: Value, headers: &[(&str, &str)]) -> Response<Body> {
        let filter = build("cors", settings).expect("good settings");
        let mut facts = testing::facts(testing::head(Method::GET, "/", headers));
        assert!(matches!(request(&*filter, &mut facts, Body::Empty), Ok(Step::Proceed(_))));
        let upstream = [("access-control-allow-origin", "*"), ("vary", "accept")];
        response(&*filter, &mut facts, testing::response(&upstream, "x"))
    }

    #[test]
    fn a_preflight_is_answered_with_what_is_allowed() {
        let response = preflight_of(settings(), "https://app.example");
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "GET, HEAD, POST");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "x-tenant");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "600");
        assert!(headers.get_all("vary").iter().any(|value| value == "origin"));
    }

    #[test]
    fn origins_are_compared_whole() {
        for (origin, allowed) in [
            ("https://a.partner.example", true),
            ("https://a.b.partner.example", true),
            ("https://partner.example", false),
            ("https://evil.example/.partner.example", false),
            ("https://evil.example:1.partner.example", false),
            ("https://xpartner.example", false),
            ("http://app.example", false),
            ("https://app.example.evil", false),
            ("null", false),
        ] {
            let response = preflight_of(settings(), origin);
            assert_eq!(response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), allowed, "{origin}");
        }
    }

    #[test]
    fn an_answer_says_what_we_say_and_not_what_the_upstream_says() {
        let response = answer_to(settings(), &[("origin", "https://app.example")]);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
        assert_eq!(response.headers()[ACCESS_CONTROL_EXPOSE_HEADERS], "x-total");
        for headers in [&[("origin", "https://evil.example")][..], &[]] {
            let response = answer_to(settings(), headers);
            assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
            let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
            assert_eq!(vary, ["accept", "origin"], "caches must know even where there was no origin");
        }
    }

    #[test]
    fn any_origin_never_depends_on_the_origin() {
        let settings = json!({ "origins": ["*"], "headers": ["*"] });
        let response = answer_to(settings.clone(), &[("origin", "https://anyone.example")]);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response.headers()["vary"], "accept");
        let response = preflight_of(settings, "https://anyone.example");
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "x-a, x-b");
    }

    #[test]
    fn dangerous_and_useless_settings_are_refused() {
        for settings in [
            json!({ "origins": ["*"], "credentials": true }),
            json!({ "origins": ["app.example"] }),
            json!({ "origins": ["https://app.example/"] }),
            json!({ "origins": ["https://app.example:443"] }),
            json!({ "origins": ["https://App.example"] }),
            json!({ "origins": ["https://app.example"], "methods": ["G T"] }),
        ] {
            assert!(build("cors", settings.clone()).is_err(), "{settings}");
        }
    }
}
