//! The claims of a token (RFC 7519 section 4) and the checks of them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use witgate_sdk::Identity;

use crate::refusal::Refusal;

/// The requirements on the claims.
pub(crate) struct Rules {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) subject: String,
    pub(crate) claims: Vec<String>,
    /// Tolerated difference between the clocks of issuer and gateway, in seconds.
    pub(crate) leeway: f64,
    pub(crate) allow_unlimited: bool,
}

/// A caller whose claims meet the requirements.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) identity: Identity,
    /// In seconds since 1970-01-01T00:00:00Z; `None`: the token does not expire.
    pub(crate) expires: Option<f64>,
}

/// The members of the claims that are looked at, in the order in which they came. Their names are borrowed from the text.
#[derive(Debug, Default)]
pub(crate) struct Claims<'a>(Vec<(Cow<'a, str>, Value)>);

impl<'a> Claims<'a> {
    /// Reads the claims that are used. If a name occurs twice, the last member counts (RFC 7519 section 4).
    pub(crate) fn read(payload: &'a str, rules: &Rules) -> Result<Self, Refusal> {
        let mut json = serde_json::Deserializer::from_str(payload);
        rules
            .deserialize(&mut json)
            .and_then(|claims| json.end().map(|()| claims))
            .map_err(|_| Refusal::Invalid("the claims are malformed"))
    }

    fn get(&self, wanted: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value)
    }

    fn take(&mut self, wanted: &str) -> Option<Value> {
        self.0.iter_mut().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.take())
    }
}

impl<'de> DeserializeSeed<'de> for &Rules {
    type Value = Claims<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Claims<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Rules {
    type Value = Claims<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Claims<'de>, A::Error> {
        let mut claims = Vec::with_capacity(4);
        while let Some(Name(name)) = members.next_key()? {
            if self.wants(&name) {
                claims.push((name, members.next_value()?));
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Claims(claims))
    }
}

/// The name of a member, borrowed from the text unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Rules {
    /// Whether a claim is used.
    fn wants(&self, name: &str) -> bool {
        matches!(name, "exp" | "nbf" | "iss" | "aud" | "scope" | "scp")
            || name == self.subject
            || self
                .claims
                .iter()
                .any(|claim| claim == name || claim.split_once('.').is_some_and(|(head, _)| head == name))
    }

    /// Checks the claims at the time `now`, in seconds since 1970-01-01T00:00:00Z.
    pub(crate) fn check(&self, mut claims: Claims<'_>, now: f64) -> Result<Accepted, Refusal> {
        let expires = date(&claims, "exp")?;
        match expires {
            Some(expires) if now >= expires + self.leeway => {
                return Err(Refusal::Invalid("the token has expired"));
            }
            None if !self.allow_unlimited => return Err(Refusal::Invalid("the token has no exp")),
            _ => {}
        }
        if date(&claims, "nbf")?.is_some_and(|begins| now + self.leeway < begins) {
            return Err(Refusal::Invalid("the token is not valid yet"));
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(Refusal::Invalid("the token is from another issuer"));
        }
        if !self.audience.is_empty() && !self.is_addressed(claims.get("aud")) {
            return Err(Refusal::Invalid("the token is for another audience"));
        }
        if !self.scopes.iter().all(|scope| has_scope(&claims, scope)) {
            return Err(Refusal::Scope(self.scopes.join(" ")));
        }
        let told = self.claims.iter().filter_map(|name| Some((name.clone(), text(found(&claims, name)?))));
        let told: Vec<(String, String)> = told.collect();
        if !told.iter().all(|(_, value)| is_field_text(value)) {
            return Err(Refusal::Invalid("a claim has a control character"));
        }
        match claims.take(&self.subject) {
            Some(Value::String(subject)) if !is_field_text(&subject) => {
                Err(Refusal::Invalid("the subject has a control character"))
            }
            Some(Value::String(subject)) if !subject.is_empty() => {
                Ok(Accepted { identity: Identity { subject, claims: told }, expires })
            }
            _ => Err(Refusal::Invalid("the token names no subject")),
        }
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

/// A NumericDate. It may be absent, but if it is there it must be a number.
fn date(claims: &Claims<'_>, name: &str) -> Result<Option<f64>, Refusal> {
    claims.get(name).map(|value| value.as_f64().ok_or(Refusal::Invalid("a date is not a number"))).transpose()
}

/// `scope` is a list separated by spaces (RFC 8693 section 4.2); some issuers write an array, or use `scp`.
fn has_scope(claims: &Claims<'_>, scope: &str) -> bool {
    ["scope", "scp"].iter().filter_map(|name| claims.get(name)).any(|value| match value {
        Value::String(scopes) => scopes.split(' ').any(|own| own == scope),
        Value::Array(scopes) => scopes.iter().any(|own| own == scope),
        _ => false,
    })
}

/// A claim, found by its whole name (which may contain dots) or else by a path into objects.
fn found<'a>(claims: &'a Claims<'_>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (head, rest) = name.split_once('.')?;
        member(claims.get(head)?, rest)
    })
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| {
        let (head, rest) = name.split_once('.')?;
        member(value.get(head)?, rest)
    })
}

/// A claim as text: strings unchanged, lists separated by commas, everything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Whether a header can carry a text (RFC 9110 section 5.5): it has no control character but the tab. The gateway
/// refuses the whole identity otherwise, and that would look like a fault of this plugin instead of the token.
fn is_field_text(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}
