//! The keys of hash policies.

use http::HeaderName;
use witgate_config::scalar::{self, Scalar};
use witgate_config::{Problem, Problems, Settings};
use witgate_exchange::cookie;

use super::Caller;

/// The part of a request that is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Header(HeaderName),
    Cookie(String),
    Path,
    Client,
}

/// Parts of a request that may be its key; the first that a request has is used.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Key>);

/// The keys of a policy whose settings name none.
pub(crate) fn default_keys() -> Vec<String> {
    vec!["client".to_owned()]
}

impl Keys {
    /// Parses `keys` of a policy's settings.
    ///
    /// # Errors
    /// Each entry that is not a key.
    pub(crate) fn read(settings: &Settings, keys: &[String]) -> Result<Keys, Problems> {
        let problem = |index: usize, why: String| -> Problem {
            let hint = "write \"header:NAME\", \"cookie:NAME\", \"path\" or \"client\"".to_owned();
            settings.problem(&format!("/keys/{index}"), why, Some(hint))
        };
        let (mut read, mut problems) = (Vec::new(), Problems::new());
        for (index, key) in keys.iter().enumerate() {
            match Key::read(key) {
                Ok(key) => read.push(key),
                Err(why) => problems.push(problem(index, format!("`{key}` is no key: {why}"))),
            }
        }
        if keys.is_empty() {
            problems.push(settings.problem("/keys", "the list of keys is empty", None));
        }
        if problems.is_empty() { Ok(Keys(read)) } else { Err(problems) }
    }

    /// The hash of a request's key: a routing plugin's, or else the first that it has. `None` if it has no key.
    pub(crate) fn hash(&self, caller: &Caller<'_>) -> Option<u64> {
        if let Some(key) = caller.hash_key {
            return Some(hash(key, 0));
        }
        self.0.iter().find_map(|key| match key {
            Key::Header(name) => caller.headers.get(name).map(|value| hash(value.as_bytes(), 0)),
            Key::Cookie(name) => cookie::find(caller.headers, name).map(|value| hash(value, 0)),
            Key::Path => Some(hash(caller.path.as_bytes(), 0)),
            Key::Client => caller.client.map(|address| match address.to_canonical() {
                std::net::IpAddr::V4(address) => hash(&address.octets(), 0),
                std::net::IpAddr::V6(address) => hash(&address.octets(), 0),
            }),
        })
    }
}

impl Key {
    fn read(text: &str) -> Result<Key, String> {
        let name = |name: &str| scalar::HeaderName::read(name).map(|read| read.0);
        match text.split_once(':') {
            None if text == "path" => Ok(Key::Path),
            None if text == "client" => Ok(Key::Client),
            Some(("header", header)) => HeaderName::from_bytes(name(header)?.as_bytes())
                .map(Key::Header)
                .map_err(|error| error.to_string()),
            // A cookie name is a token like a header name, but is case-sensitive.
            Some(("cookie", cookie)) => name(cookie).map(|_| Key::Cookie(cookie.to_owned())),
            _ => Err("it names no part of a request".to_owned()),
        }
    }
}

/// FNV-1a, mixed by the finaliser of SplitMix64. It is the same on every machine and in every version, so that
/// several gateways agree. It need not resist attackers: whoever chooses keys to hit one endpoint could as well
/// repeat one key.
pub(crate) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let start = 0xCBF2_9CE4_8422_2325 ^ seed;
    let hash =
        bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mix(hash)
}

/// The finaliser of SplitMix64: every output bit depends on every input bit.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::testing::{self, CLIENT};

    fn keys(keys: &[&str]) -> Result<Keys, Problems> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let written = serde_json::Map::from_iter([("keys".to_owned(), keys.clone().into())]);
        Keys::read(&Settings::unwritten("upstreams.a.balancer", written), &keys)
    }

    #[test]
    fn the_first_that_a_request_has_counts_and_a_plugin_s_before_all() {
        let head =
            testing::head(http::Method::GET, "/a", &[("x-user", "ann"), ("cookie", "b=1; session=xyz")]);
        let caller = Caller { headers: &head.headers, path: "/a", client: Some(CLIENT), hash_key: None };
        let hash_by = |names: &[&str]| keys(names).unwrap().hash(&caller);
        assert_eq!(hash_by(&["header:X-User", "client"]), Some(hash(b"ann", 0)));
        assert_eq!(hash_by(&["header:x-other", "cookie:session"]), Some(hash(b"xyz", 0)));
        assert_eq!(hash_by(&["cookie:Session", "path"]), Some(hash(b"/a", 0)), "cookies have a case");
        assert_eq!(hash_by(&["client"]), Some(hash(&[192, 0, 2, 7], 0)));
        assert_eq!(hash_by(&["header:x-other"]), None);
        let chosen = Caller { hash_key: Some(b"plugin"), ..caller };
        assert_eq!(keys(&["client"]).unwrap().hash(&chosen), Some(hash(b"plugin", 0)));
        let nobody = Caller { headers: &HeaderMap::new(), client: None, ..caller };
        assert_eq!(keys(&["client"]).unwrap().hash(&nobody), None);
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let headers = HeaderMap::new();
        let by = |address: &str| {
            let client = Some(address.parse().unwrap());
            keys(&["client"]).unwrap().hash(&Caller { headers: &headers, path: "/", client, hash_key: None })
        };
        assert_eq!(by("::ffff:192.0.2.7"), by("192.0.2.7"));
        assert_ne!(by("::1"), by("::2"));
    }

    #[test]
    fn what_is_no_key_is_told() {
        let problems = keys(&["client", "ip", "header:", "cookie:a b"]).unwrap_err();
        let places: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        let expected = [1, 2, 3].map(|index| format!("upstreams.a.balancer.keys[{index}]"));
        assert_eq!(places, expected);
        assert!(keys(&[]).is_err());
    }

    #[test]
    fn the_hash_stays_what_it_is() {
        // During a rollout, gateways of two versions run side by side and must agree.
        assert_eq!(hash(b"ann", 0), hash(b"ann", 0));
        assert_ne!(hash(b"ann", 0), hash(b"ann", 1));
    }
}
