//! Authenticates API keys, of which only the SHA-256 hashes are configured.
//!
//! For machines that call with a long random key, in a header or in the query. Keys that people choose do not belong
//! here: a fast hash does not protect them.

mod keys;

use std::borrow::Cow;
use std::collections::BTreeMap;

use keys::Keys;
use witgate_sdk::{
    Acceptance, Authentication, Decision, HeaderName, Input, Interest, Period, Plugin, Request, Response,
    SettingsProblem, authentication, settings,
};

/// The challenge of somebody without a key (RFC 9110 section 11.6.1).
const CHALLENGE: &str = "ApiKey";

/// Where keys are looked for, and whose they are.
#[settings]
struct Settings {
    /// The header that carries the key; `x-api-key` if neither a header nor a query parameter is named.
    header: Option<HeaderName>,
    /// The query parameter that carries the key where there is no such header. Queries end up in logs and histories:
    /// prefer the header.
    query: Option<String>,
    /// The keys.
    keys: Vec<Key>,
    /// For how long the gateway may remember that a key is good.
    #[serde(default = "default_cache_for")]
    cache_for: Period,
}

/// One key. Two with the same name are one caller: that is how keys are rotated.
#[settings]
struct Key {
    /// The caller it belongs to.
    name: String,
    /// SHA-256 of the key, in hexadecimal.
    #[schemars(regex(pattern = "^[0-9A-Fa-f]{64}$"))]
    sha256: String,
    /// Facts about the caller.
    #[serde(default)]
    claims: BTreeMap<String, String>,
}

fn default_cache_for() -> Period {
    Period::from_secs(60)
}

/// The plugin: settings whose hashes are read.
struct ApiKeys {
    header: Option<HeaderName>,
    query: Option<String>,
    cache_for: Period,
    keys: Keys,
}

impl Plugin for ApiKeys {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<SettingsProblem>> {
        let Settings { mut header, query, keys, cache_for } = settings;
        if header.is_none() && query.is_none() {
            header = HeaderName::try_from("x-api-key".to_owned()).ok();
        }
        Ok(Self { header, query, cache_for, keys: Keys::new(keys)? })
    }
}

#[authentication]
impl Authentication for ApiKeys {
    fn interest(&self) -> Interest {
        Interest::none().request_headers(&self.header).authenticates_by(self.inputs())
    }

    fn authenticate(&self, request: &Request) -> Decision {
        let presented = match self.presented(request) {
            Ok(Some(key)) => key,
            Ok(None) => return Decision::not_mine(CHALLENGE),
            Err(refusal) => return refusal.into(),
        };
        match self.keys.owner(presented.as_bytes()) {
            Some(identity) => Acceptance::from(identity).cacheable_for(self.cache_for.duration()).into(),
            None => Decision::unauthorized(CHALLENGE),
        }
    }
}

impl ApiKeys {
    /// The key that came with a request, if one did.
    fn presented<'a>(&self, request: &'a Request) -> Result<Option<Cow<'a, str>>, Response> {
        let mut values = self.header.iter().flat_map(|name| request.values(name));
        let Some(value) = values.next() else {
            return Ok(self.query.as_deref().and_then(|name| request.query_parameter(name)));
        };
        // Two keys are one too many: another reader of this request might take the other.
        match std::str::from_utf8(value) {
            Ok(key) if values.next().is_none() => Ok(Some(Cow::Borrowed(key))),
            _ => Err(Response::unauthorized(CHALLENGE)),
        }
    }

    /// Everything a decision looks at.
    fn inputs(&self) -> Vec<Input> {
        let header = self.header.iter().map(|name| Input::header(&**name));
        header.chain(self.query.iter().map(|_| Input::Query)).collect()
    }
}

#[cfg(test)]
mod tests;
