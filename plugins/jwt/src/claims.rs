//! What a token says (RFC 7519 section 4), and whether that is enough.

use serde_json::{Map, Value};
use witgate_sdk::Identity;

use crate::refusal::Refusal;

/// What is asked of the claims.
pub(crate) struct Rules {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) subject: String,
    pub(crate) claims: Vec<String>,
    /// In seconds.
    pub(crate) leeway: f64,
    pub(crate) allow_unlimited: bool,
}

/// A caller whose claims are good.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) identity: Identity,
    /// In seconds since 1970-01-01T00:00:00Z; none: for ever.
    pub(crate) expires: Option<f64>,
}

impl Rules {
    /// Whether a member of the claims is looked at.
    pub(crate) fn wants(&self, name: &str) -> bool {
        matches!(name, "exp" | "nbf" | "iss" | "aud" | "scope" | "scp")
            || name == self.subject
            || self
                .claims
                .iter()
                .any(|claim| claim == name || claim.split_once('.').is_some_and(|(head, _)| head == name))
    }

    /// Checks the claims at a time, in seconds since 1970-01-01T00:00:00Z.
    pub(crate) fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<Accepted, Refusal> {
        let expires = date(claims, "exp")?;
        match expires {
            Some(expires) if now >= expires + self.leeway => {
                return Err(Refusal::Invalid("the token has expired"));
            }
            None if !self.allow_unlimited => return Err(Refusal::Invalid("the token has no exp")),
            _ => {}
        }
        if date(claims, "nbf")?.is_some_and(|begins| now + self.leeway < begins) {
            return Err(Refusal::Invalid("the token is not valid yet"));
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(Refusal::Invalid("the issuer is another"));
        }
        if !self.audience.is_empty() && !self.is_addressed(claims.get("aud")) {
            return Err(Refusal::Invalid("the token is for others"));
        }
        if !self.scopes.iter().all(|scope| has_scope(claims, scope)) {
            return Err(Refusal::Scope(self.scopes.join(" ")));
        }
        let subject = claims.get(&self.subject).and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let mut identity = Identity::new(subject.ok_or(Refusal::Invalid("the token names no subject"))?);
        for name in &self.claims {
            if let Some(value) = found(claims, name) {
                identity = identity.with_claim(&**name, text(value));
            }
        }
        Ok(Accepted { identity, expires })
    }

    fn is_addressed(&self, audience: Option<&Value>) -> bool {
        let is_ours =
            |value: &Value| value.as_str().is_some_and(|name| self.audience.iter().any(|own| own == name));
        match audience {
            Some(Value::Array(names)) => names.iter().any(is_ours),
            Some(name) => is_ours(name),
            None => false,
        }
    }
}

/// A NumericDate; not there is fine, not a number is not.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Refusal> {
    claims.get(name).map(|value| value.as_f64().ok_or(Refusal::Invalid("a date is not a number"))).transpose()
}

/// `scope` is a list with spaces (RFC 8693 section 4.2); some issuers write an array, or `scp`.
fn has_scope(claims: &Map<String, Value>, scope: &str) -> bool {
    ["scope", "scp"].iter().filter_map(|name| claims.get(*name)).any(|value| match value {
        Value::String(scopes) => scopes.split(' ').any(|own| own == scope),
        Value::Array(scopes) => scopes.iter().any(|own| own == scope),
        _ => false,
    })
}

/// A claim by its whole name, dots included, or by a path into objects.
fn found<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (head, rest) = name.split_once('.')?;
        found(claims.get(head)?.as_object()?, rest)
    })
}

/// A claim as text: strings as they are, lists with commas, all else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
