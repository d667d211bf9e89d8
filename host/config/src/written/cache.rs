//! `[cache]` and `routes.cache`: the shared cache of responses.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, HeaderName, Size, Text};

/// The share of the memory that one response body may take at most.
const SHARES: usize = 32;

/// The memory that all routes with a cache share. A reload keeps the stored responses as long as this table is equal.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cache {
    /// Bytes of all stored responses together, including their heads, their keys and the overhead of the store, and of
    /// those that are being stored. What is used least gives way first.
    memory: Text<Size>,
    /// Bytes of the largest response body that is stored: at most a thirty-second of `memory`. Larger ones are passed on
    /// without being stored.
    object: Text<Size>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { memory: Text::of("64MiB"), object: Text::of("1MiB") }
    }
}

impl Section for Cache {
    type Meant = model::Cache;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Cache> {
        let (memory, object) = (self.memory.value.in_memory(), self.object.value.in_memory());
        scope.check_size(at, "memory", memory as u64, (1 << 20, 1 << 40));
        if object > memory / SHARES {
            let at = child(at, if scope.is_written(&child(at, "object")) { "object" } else { "memory" });
            let hint = Some(format!("raise `memory` to at least {} bytes", object.saturating_mul(SHARES)));
            scope.report(&at, format!("`memory` must be at least {SHARES} times `object`"), hint);
        }
        Some(model::Cache { memory, object })
    }
}

/// A shared cache (RFC 9111) for the responses of a route: `cache = {}` stores what the upstream allows. Every request
/// passes filters, authentication, limits and request transformations first, and response transformations see stored
/// responses too.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteCache {
    /// Who may share the responses to requests with an identity, a client certificate or credentials: `"explicit"`, nobody
    /// unless the response says `public`, `s-maxage` or `must-revalidate` (RFC 9111 section 3.5); `"identity"`, the same
    /// identity of the same binding, with the same claims; `"claim:NAME"`, identities of the same binding and issuer with
    /// the same value of this claim. A request without that claim shares nothing.
    share: String,
    /// The query parameters that responses depend on. Others are removed from what is sent to the upstream, and the order
    /// does not matter. Without it, the query is sent as it is, and each spelling is stored for itself.
    query: Option<Vec<String>>,
    /// Request headers on which responses depend although their `Vary` does not say so.
    headers: Vec<Text<HeaderName>>,
    /// What is done with responses that set cookies: they are not stored (`refuse`), stored without `Set-Cookie`
    /// (`remove`), or stored as they are, so that everybody gets the same cookie (`keep`).
    set_cookie: SetCookie,
    /// How long responses with a status are fresh if they do not say so themselves, e.g. `{ 404 = "10s" }`.
    lifetimes: BTreeMap<String, Text<Duration>>,
    /// Whether a response that does not say how long it is fresh is used for a tenth of the time since `Last-Modified`, one
    /// day at most (RFC 9111 section 4.2.2).
    heuristics: bool,
    /// How long after it became stale a response is used while it is revalidated in the background, if it has no
    /// `stale-while-revalidate` of its own (RFC 5861). `must-revalidate` wins.
    stale_while_revalidate: Text<Duration>,
    /// How long after it became stale a response is used if the upstream cannot be reached, does not respond in time, is
    /// cut off by its circuit breaker, or responds with 500, 502, 503 or 504, if the response has no `stale-if-error` of its
    /// own (RFC 5861). `must-revalidate` wins.
    stale_if_error: Text<Duration>,
    /// Whether `Cache-Control` and `Pragma` of requests are obeyed (RFC 9111 section 5.2.1). `false` keeps clients from
    /// going around the cache.
    request_directives: bool,
    /// How long a request waits for the response to the same request of another client, before it is sent by itself.
    wait: Text<Duration>,
}

/// What is done with responses that set cookies.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum SetCookie {
    #[default]
    Refuse,
    Remove,
    Keep,
}

impl Default for RouteCache {
    fn default() -> Self {
        Self {
            share: "explicit".to_owned(),
            query: None,
            headers: Vec::new(),
            set_cookie: SetCookie::Refuse,
            lifetimes: BTreeMap::new(),
            heuristics: true,
            stale_while_revalidate: Text::of("0s"),
            stale_if_error: Text::of("0s"),
            request_directives: true,
            wait: Text::of("5s"),
        }
    }
}

impl RouteCache {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::RouteCache {
        let share = share(&self.share, &child(at, "share"), scope);
        let mut lifetimes = BTreeMap::new();
        for (status, lifetime) in self.lifetimes {
            match status.parse() {
                Ok(number @ 200..600) if !matches!(number, 206 | 304) => {
                    lifetimes.insert(number, lifetime.value.0);
                }
                _ => {
                    let hint =
                        Some("responses with 200 to 599 are stored, except for 206 and 304".to_owned());
                    let at = child(&child(at, "lifetimes"), &status);
                    scope.report_key(
                        &at,
                        format!("responses with the status `{status}` are not stored"),
                        hint,
                    );
                }
            }
        }
        for (index, name) in self.query.iter().flatten().enumerate() {
            if name.is_empty() || name.contains(['&', '=', '#', '?']) {
                let at = child(&child(at, "query"), &index.to_string());
                scope.report(&at, format!("`{name}` is no name of a query parameter"), None);
            }
        }
        model::RouteCache {
            share,
            query: self.query,
            headers: self.headers.into_iter().map(|name| name.value.0).collect(),
            set_cookie: match self.set_cookie {
                SetCookie::Refuse => model::SetCookie::Refuse,
                SetCookie::Remove => model::SetCookie::Remove,
                SetCookie::Keep => model::SetCookie::Keep,
            },
            lifetimes,
            heuristics: self.heuristics,
            stale_while_revalidate: self.stale_while_revalidate.value.0,
            stale_if_error: self.stale_if_error.value.0,
            request_directives: self.request_directives,
            wait: self.wait.value.0,
        }
    }
}

fn share(text: &str, at: &str, scope: &mut Scope) -> model::Share {
    match text {
        "explicit" => model::Share::Explicit,
        "identity" => model::Share::Identity,
        _ => match text.strip_prefix("claim:").filter(|name| !name.is_empty()) {
            Some(name) => model::Share::Claim(name.to_owned()),
            None => {
                let hint = "write \"explicit\", \"identity\" or \"claim:NAME\"".to_owned();
                scope.report(at, format!("`{text}` does not say who shares responses"), Some(hint));
                model::Share::Explicit
            }
        },
    }
}
