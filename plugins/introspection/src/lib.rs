//! Authenticates bearer tokens by asking their issuer (OAuth 2.0 Token Introspection, RFC 7662).
//!
//! For opaque tokens, and for tokens that must end at once when they are revoked. Answers are kept in the store, by the digest
//! of the token, never longer than the token is valid.

mod answer;
mod cache;

use std::time::Duration;

use answer::{Answer, Rules};
use cache::Cache;
use witgate_sdk::{
    Acceptance, Authentication, Decision, FORM, Form, Identity, Input, Interest, Period, Plugin, Problem,
    Request, Response, Secret, SettingsProblem, authentication, encoding, fetch, form_encoded, is_json, log,
    settings,
};

/// The longest token that is asked about, in bytes.
const LONGEST: usize = 8192;

/// Where tokens are asked about, and what they must say.
#[settings]
pub(crate) struct Settings {
    /// The upstream to ask; the binding's `fetch` grant must list it.
    upstream: String,
    /// The path of the introspection endpoint at that upstream.
    #[serde(default = "default_path")]
    #[schemars(regex(pattern = "^/"))]
    path: String,
    /// The name by which this gateway is known to the endpoint.
    client_id: Option<String>,
    /// The password that belongs to `client_id`.
    client_secret: Option<Secret>,
    /// How `client_id` and `client_secret` are sent.
    #[serde(default)]
    client_auth: ClientAuth,
    /// A token for the endpoint, in place of `client_id` and `client_secret`.
    bearer: Option<Secret>,
    /// The issuer that answers must name. Without it, any.
    issuer: Option<String>,
    /// Audiences, one of which a token must be for. Without any, all tokens are accepted.
    #[serde(default)]
    audience: Vec<String>,
    /// Scopes, all of which a token must have.
    #[serde(default)]
    scopes: Vec<String>,
    /// The member that becomes the subject of the caller, if it is there; otherwise `sub`, `username` or `client_id`.
    #[serde(default = "default_subject")]
    subject: String,
    /// Members that become claims of the caller.
    #[serde(default)]
    claims: Vec<String>,
    /// How long the answer for an active token may be used; at most until the token expires. A revoked token is accepted for at
    /// most this time. `0s`: each request asks.
    #[serde(default = "default_cache_for")]
    cache_for: Period,
    /// How long the answer for a token that is not active may be used.
    #[serde(default = "default_negative")]
    negative_cache_for: Period,
    /// Time limit of one question. The wall time of the binding limits it in any case.
    timeout: Option<Period>,
    /// The longest answer in bytes. `budget.fetch_limit` of the binding limits it, too.
    #[serde(default = "default_max_answer")]
    #[schemars(range(min = 64, max = 1_048_576))]
    max_answer: u32,
    /// The space of the store that keeps answers; the binding's `store` grant must list it.
    #[serde(default = "default_store")]
    store: String,
}

/// How a client authenticates (RFC 6749 section 2.3.1).
#[settings]
#[derive(Clone, Copy, Default, PartialEq)]
enum ClientAuth {
    /// `Authorization: Basic`.
    #[default]
    Basic,
    /// Fields of the form.
    Post,
}

fn default_path() -> String {
    "/introspect".to_owned()
}

fn default_subject() -> String {
    "sub".to_owned()
}

fn default_cache_for() -> Period {
    Period::from_secs(30)
}

fn default_negative() -> Period {
    Period::from_secs(10)
}

fn default_max_answer() -> u32 {
    64 * 1024
}

fn default_store() -> String {
    "tokens".to_owned()
}

/// The plugin.
struct Introspection {
    upstream: String,
    path: String,
    /// The value of `Authorization` for the endpoint.
    authorization: Option<String>,
    /// The client in the form, if it authenticates there.
    client: Option<(String, Secret)>,
    timeout: Option<Duration>,
    max_answer: usize,
    rules: Rules,
    cache: Cache,
}

impl Plugin for Introspection {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let problem = |pointer: &str, message: &str| Err(vec![SettingsProblem::new(pointer, message)]);
        if !settings.path.starts_with('/') {
            return problem("/path", "a path begins with `/`");
        }
        if settings.bearer.is_some() && settings.client_id.is_some() {
            return problem("/bearer", "write either `bearer`, or `client_id` and `client_secret`");
        }
        let client = match (settings.client_id, settings.client_secret) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            (Some(_), None) => return problem("/client_id", "a client needs a `client_secret`"),
            (None, Some(_)) => return problem("/client_secret", "a client needs a `client_id`"),
        };
        let basic =
            client.as_ref().filter(|_| settings.client_auth == ClientAuth::Basic).map(|(id, secret)| {
                let pair = format!("{}:{}", form_encoded(id), form_encoded(secret.reveal()));
                format!("Basic {}", encoding::base64(pair))
            });
        let bearer = settings.bearer.map(|token| format!("Bearer {}", token.reveal()));
        let cache = Cache {
            space: settings.store,
            // Two places may know the same token, and say different things about it.
            place: format!("{} {}", settings.upstream, settings.path),
            active: settings.cache_for.duration(),
            inactive: settings.negative_cache_for.duration(),
        };
        Ok(Self {
            upstream: settings.upstream,
            path: settings.path,
            authorization: basic.or(bearer),
            client: client.filter(|_| settings.client_auth == ClientAuth::Post),
            timeout: settings.timeout.map(Period::duration),
            max_answer: usize::try_from(settings.max_answer).unwrap_or(usize::MAX),
            rules: Rules {
                issuer: settings.issuer,
                audience: settings.audience,
                scopes: settings.scopes,
                subject: settings.subject,
                claims: settings.claims,
            },
            cache,
        })
    }
}

#[authentication]
impl Authentication for Introspection {
    fn interest(&self) -> Interest {
        Interest::none().request_headers(["authorization"]).authenticates_by([Input::header("authorization")])
    }

    fn authenticate(&self, request: &Request) -> Decision {
        let mut values = request.values("authorization");
        let Some(token) = values.next().and_then(bearer) else { return Decision::not_mine("Bearer") };
        if values.next().is_some() {
            // Of two credentials, another program might use the other one.
            return Response::problem(400, "Bad Request")
                .with_header("www-authenticate", "Bearer error=\"invalid_request\"")
                .into();
        }
        let Some(token) = well_formed(token) else { return invalid("the token is malformed") };
        let known = self.cache.get(token);
        let (answer, until) = match known {
            Some(known) => known,
            None => match self.ask(token) {
                Ok(answer) => {
                    let until = self.cache.put(token, &answer);
                    (answer, until)
                }
                Err(why) => {
                    log::warn(format_args!("a token cannot be checked: {why}"));
                    return unavailable();
                }
            },
        };
        match self.rules.judge(&answer) {
            Ok(identity) => accept(identity, until),
            Err(answer::Refusal::Invalid(why)) => invalid(why),
            Err(answer::Refusal::Scope(scopes)) => {
                let problem = Problem::fault(403, "forbidden", "The caller may not do this")
                    .detail("the token lacks a scope that this service asks for");
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"");
                Response::from(problem).with_header("www-authenticate", challenge).into()
            }
        }
    }
}

impl Introspection {
    /// Asks about a token.
    ///
    /// # Errors
    /// There is no answer that can be used; the text says why, and holds no secrets.
    fn ask(&self, token: &str) -> Result<Answer, String> {
        let mut form = Form::new().with("token", token).with("token_type_hint", "access_token");
        if let Some((id, secret)) = &self.client {
            form = form.with("client_id", id).with("client_secret", secret.reveal());
        }
        let mut question = fetch::post(&self.upstream, &self.path, form.to_string())
            .with_header("content-type", FORM)
            .with_header("accept", "application/json");
        if let Some(authorization) = &self.authorization {
            question = question.with_header("authorization", authorization.as_str());
        }
        if let Some(timeout) = self.timeout {
            question = question.with_timeout(timeout);
        }
        let response = question.send().map_err(|error| format!("the endpoint gave no answer: {error:?}"))?;
        if response.status != 200 {
            let hint = if matches!(response.status, 401 | 403) {
                "; are the client's credentials right?"
            } else {
                ""
            };
            return Err(format!("the endpoint answered with {}{hint}", response.status));
        }
        if !response.header("content-type").is_some_and(is_json) {
            return Err("the answer is not JSON by its Content-Type".to_owned());
        }
        if response.body.len() > self.max_answer {
            return Err(format!(
                "the answer has {} bytes, at most {} are read",
                response.body.len(),
                self.max_answer
            ));
        }
        Answer::read(response.body).map_err(str::to_owned)
    }
}

/// The token of bearer credentials (RFC 6750 section 2.1); `None` if they are of another scheme. Schemes have no case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A token, if it is one by its letters (`b64token`, RFC 6750 section 2.1) and not too long.
fn well_formed(token: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(token).ok().filter(|text| text.len() <= LONGEST)?;
    let letters = text.trim_end_matches('=');
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    (!letters.is_empty() && letters.bytes().all(is_letter)).then_some(text)
}

fn accept(identity: Identity, until: Duration) -> Decision {
    let left = until.saturating_sub(witgate_sdk::clock::now());
    Acceptance::from(identity).cacheable_for(left).into()
}

fn invalid(why: &str) -> Decision {
    log::debug(why);
    Response::unauthorized(&format!("Bearer error=\"invalid_token\", error_description=\"{why}\"")).into()
}

fn unavailable() -> Decision {
    let problem =
        Problem::new(503, "Service Unavailable").detail("credentials cannot be checked at the moment");
    Response::from(problem).with_header("retry-after", "5").into()
}

#[cfg(test)]
mod tests;
