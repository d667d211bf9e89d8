//! `upstreams.NAME.sticky`: clients that stay with their endpoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{DurationOrOff, HeaderName, Scalar, Text};
use crate::written::Scope;

/// A signed cookie binds a client to the endpoint that served it before. It reveals nothing about the endpoint, is
/// `HttpOnly`, and `Secure` over TLS. If it is missing, forged or too old, or its endpoint takes no requests, the
/// balancer picks, and a new one is set. Endpoints never see it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sticky {
    /// The name of the cookie.
    #[schemars(length(min = 1))]
    cookie: String,
    /// The paths for which browsers send it.
    path: String,
    /// How long it is valid, or `"off"`: until the browser ends. It is renewed when half of the time is over.
    ttl: Text<DurationOrOff>,
    /// Whether browsers send it with requests that other sites cause. `none` needs TLS; without TLS, `lax` is
    /// sent.
    same_site: SameSite,
    /// The key with which cookies are signed, best written as `"${file:/run/secrets/sticky}"`. Gateways that serve
    /// the same clients need the same key. Without it, a random key of the process: after a restart, clients are
    /// not bound any more.
    key: Option<String>,
}

/// With which requests of other sites a browser sends the cookie.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum SameSite {
    Strict,
    Lax,
    None,
}

impl Default for Sticky {
    fn default() -> Self {
        Self {
            cookie: "witgate".to_owned(),
            path: "/".to_owned(),
            ttl: Text::of("off"),
            same_site: SameSite::Lax,
            key: None,
        }
    }
}

/// Shorter keys can be guessed.
const SHORTEST_KEY: usize = 32;

impl Sticky {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Sticky {
        // The name of a cookie is a token (RFC 6265 section 4.1.1), like the name of a header.
        if let Err(why) = HeaderName::read(&self.cookie) {
            scope.report(&child(at, "cookie"), format!("this cannot be the name of a cookie: {why}"), None);
        }
        let path_is_sendable = self.path.starts_with('/')
            && self.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
        if !path_is_sendable {
            scope.report(
                &child(at, "path"),
                "this cannot be the path of a cookie",
                Some("write \"/\"".into()),
            );
        }
        if self.key.as_ref().is_some_and(|key| key.len() < SHORTEST_KEY) {
            let hint = Some("make one with `openssl rand -hex 32`".to_owned());
            scope.report(
                &child(at, "key"),
                format!("the key has fewer than {SHORTEST_KEY} characters"),
                hint,
            );
        }
        model::Sticky {
            cookie: self.cookie,
            path: self.path,
            ttl: self.ttl.value.0.map(|ttl| scope.check_positive(at, "ttl", ttl)),
            same_site: match self.same_site {
                SameSite::Strict => model::SameSite::Strict,
                SameSite::Lax => model::SameSite::Lax,
                SameSite::None => model::SameSite::None,
            },
            key: self.key,
        }
    }
}
