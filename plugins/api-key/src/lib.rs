//! Authenticates API keys, of which only the SHA-256 hashes are configured.
//!
//! For machines that send a long random key, in a header or in the query. Do not use it for keys that people
//! choose, because a fast hash does not protect them.

mod keys;

use std::borrow::Cow;
use std::collections::BTreeMap;

use keys::Keys;
use witgate_sdk::{
    Acceptance, Authentication, Decision, HeaderName, Input, Interest, Period, Plugin, Request, Response,
    SettingsProblem, authentication, settings,
};

/// The challenge for a request without a key (RFC 9110 section 11.6.1).
const CHALLENGE: &str = "ApiKey";

/// Where a request carries its key, and which keys are known.
#[settings]
struct Settings {
    /// The header that carries the key. The default is `x-api-key` if `query` is not set either.
    header: Option<HeaderName>,
    /// The query parameter that carries the key. Queries are often logged, so prefer the header.
    query: Option<String>,
    /// The known keys.
    keys: Vec<Key>,
    /// How long the gateway may remember that a key is valid.
    #[serde(default = "default_cache_for")]
    cache_for: Period,
}

/// One key. Two keys with the same name belong to the same caller, which allows to rotate keys.
#[settings]
struct Key {
    /// The caller it belongs to.
    name: String,
    /// SHA-256 of the key, in hexadecimal.
    #[schemars(regex(pattern = "^[0-9A-Fa-f]{64}$"))]
    sha256: String,
    /// Claims of the caller.
    #[serde(default)]
    claims: BTreeMap<String, String>,
}

fn default_cache_for() -> Period {
    Period::from_secs(60)
}

/// The plugin: the settings with parsed hashes.
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
    /// The key of a request, if it has one.
    fn presented<'a>(&self, request: &'a Request) -> Result<Option<Cow<'a, str>>, Response> {
        let header = self.header.iter().flat_map(|name| request.values(name));
        let header = header.map(|value| std::str::from_utf8(value).ok().map(Cow::Borrowed));
        let query = self.query.iter().flat_map(|name| request.query_values(name));
        let mut values = header.chain(query);
        // Two keys in one request are refused wherever they are, because another program might use the other one.
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(Some(key)), None) => Ok(Some(key)),
            _ => Err(Response::unauthorized(CHALLENGE)),
        }
    }

    /// All inputs on which a decision depends.
    fn inputs(&self) -> Vec<Input> {
        let header = self.header.iter().map(|name| Input::header(&**name));
        header.chain(self.query.iter().map(|_| Input::Query)).collect()
    }
}

#[cfg(test)]
mod tests;
