//! What an endpoint says about a token (RFC 7662 section 2.2), and whether that is enough.

use std::time::Duration;

use serde_json::{Map, Value};
use witgate_sdk::{Identity, clock};

/// An answer that has the form of one.
pub(crate) struct Answer {
    /// Its text, as received.
    pub(crate) text: Vec<u8>,
    /// Whether the token is active.
    pub(crate) active: bool,
    /// When it expires, in seconds since 1970.
    pub(crate) expires: Option<u64>,
    members: Map<String, Value>,
}

/// What answers must say.
pub(crate) struct Rules {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) subject: String,
    pub(crate) claims: Vec<String>,
}

/// Why a token is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// The token is not valid here.
    Invalid(&'static str),
    /// It lacks a scope; all that are required.
    Scope(String),
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// It has not the form that the RFC demands, so nothing is known about the token.
    pub(crate) fn read(text: Vec<u8>) -> Result<Self, &'static str> {
        let members: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|_| "the answer is not a JSON object")?;
        let active = members.get("active").and_then(Value::as_bool).ok_or("`active` is not true or false")?;
        let expires = match members.get("exp") {
            None | Some(Value::Null) => None,
            Some(time) => Some(seconds(time).ok_or("`exp` is not a time")?),
        };
        Ok(Self { text, active, expires, members })
    }

    /// How long the token is valid yet; `None`: nobody knows.
    pub(crate) fn left(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.expires?).saturating_sub(clock::now()))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// Whether a member is this text, or a list that contains it.
    fn says(&self, name: &str, wanted: &[String]) -> bool {
        let is_wanted =
            |value: &Value| value.as_str().is_some_and(|text| wanted.iter().any(|known| known == text));
        match self.members.get(name) {
            Some(Value::Array(list)) => list.iter().any(is_wanted),
            Some(value) => is_wanted(value),
            None => false,
        }
    }
}

impl Rules {
    /// The caller, if the answer is enough.
    pub(crate) fn judge(&self, answer: &Answer) -> Result<Identity, Refusal> {
        if !answer.active {
            return Err(Refusal::Invalid("the token is not active"));
        }
        let now = clock::unix_seconds();
        if answer.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Invalid("the token has expired"));
        }
        if answer.members.get("nbf").is_some_and(|begins| seconds(begins).is_none_or(|begins| begins > now)) {
            return Err(Refusal::Invalid("the token is not valid yet"));
        }
        if self.issuer.as_ref().is_some_and(|issuer| answer.text("iss") != Some(issuer)) {
            return Err(Refusal::Invalid("the token is of another issuer"));
        }
        if !self.audience.is_empty() && !answer.says("aud", &self.audience) {
            return Err(Refusal::Invalid("the token is for another audience"));
        }
        let held = || answer.text("scope").unwrap_or_default().split(' ');
        if !self.scopes.iter().all(|wanted| held().any(|scope| scope == wanted)) {
            return Err(Refusal::Scope(self.scopes.join(" ")));
        }
        let names = [self.subject.as_str(), "sub", "username", "client_id"];
        let subject = names.into_iter().find_map(|name| answer.text(name));
        let subject = subject.ok_or(Refusal::Invalid("nobody is named as the holder of the token"))?;
        let claims = self.claims.iter().filter_map(|name| Some((name, answer.members.get(name)?)));
        Ok(claims.fold(Identity::new(subject), |identity, (name, value)| match value {
            Value::Null => identity,
            Value::String(text) => identity.with_claim(name, text),
            other => identity.with_claim(name, other.to_string()),
        }))
    }
}

/// A time in whole seconds since 1970. Some servers write a fraction.
fn seconds(value: &Value) -> Option<u64> {
    let whole = |number: f64| (0.0..1e15).contains(&number).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}
