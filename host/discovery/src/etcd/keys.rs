//! The keys under the prefix, and the endpoints that they stand for.

use std::collections::BTreeMap;

use serde::Deserialize;
use witgate_exchange::contracts::discovery::EndpointSpec;

use super::protocol::{Event, EventType, KeyValue};
use crate::endpoint::{Endpoint, at};
use crate::text::shortened;

/// The most keys. As many endpoints as a set may have.
pub(super) const MOST: usize = 100_000;
/// The most bytes of a value, and of a key after its prefix.
const LONGEST: usize = 1024;

/// The keys under a prefix.
pub(super) struct Keys {
    prefix: String,
    /// The endpoint of each key, by what follows the prefix.
    known: BTreeMap<Vec<u8>, EndpointSpec>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys { prefix: prefix.to_owned(), known: BTreeMap::new() }
    }

    /// The key that comes after all keys with the prefix.
    pub(super) fn end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone().into_bytes();
        // The prefix ends in `/`, so its last byte can be raised.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end
    }

    /// What follows the prefix. A longer name than the sink accepts is shortened, so that it takes no more memory.
    fn name<'a>(&self, pair: &'a KeyValue) -> Option<&'a [u8]> {
        let name = pair.key.strip_prefix(self.prefix.as_bytes())?;
        Some(&name[..name.len().min(LONGEST)])
    }

    /// Notes a key with its value. Keys outside of the prefix are ignored.
    pub(super) fn put(&mut self, pair: &KeyValue) -> Result<(), String> {
        let Some(name) = self.name(pair) else { return Ok(()) };
        let spec = endpoint(&String::from_utf8_lossy(name), &pair.value);
        self.known.insert(name.to_owned(), spec);
        match self.known.len() <= MOST {
            true => Ok(()),
            false => Err(format!("more than {MOST} keys begin with `{}`", self.prefix)),
        }
    }

    /// Applies a change.
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), String> {
        let Some(pair) = &event.kv else { return Ok(()) };
        match EventType::try_from(event.kind) {
            Ok(EventType::Put) => self.put(pair),
            Ok(EventType::Delete) => {
                self.name(pair).map(|name| self.known.remove(name));
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// All endpoints.
    pub(super) fn endpoints(&self) -> Vec<EndpointSpec> {
        self.known.values().cloned().collect()
    }
}

/// What the resolvers in etcd's own libraries write.
#[derive(Deserialize)]
struct Registered {
    #[serde(rename = "Addr")]
    address: String,
}

/// The endpoint that a value stands for. A value that cannot be used becomes an endpoint without an address, which the
/// sink leaves out and shows.
fn endpoint(name: &str, value: &[u8]) -> EndpointSpec {
    let text = match std::str::from_utf8(value) {
        Ok(text) if value.len() <= LONGEST => text.trim(),
        Ok(_) => "(a value of more than 1024 bytes)",
        Err(_) => "(a value that is not text)",
    };
    let read = if text.starts_with('{') { json(text) } else { at(text) };
    let spec =
        read.unwrap_or_else(|_| EndpointSpec { port: 1, ..EndpointSpec::at(&shortened(text, 100), 1) });
    EndpointSpec { name: spec.name.clone().or_else(|| Some(name.to_owned())), ..spec }
}

fn json(text: &str) -> Result<EndpointSpec, String> {
    let own = serde_json::from_str(text).map(|Endpoint(spec)| spec);
    own.map_err(|error| error.to_string()).or_else(|why| {
        let registered: Registered = serde_json::from_str(text).map_err(|_| why)?;
        at(&registered.address)
    })
}

#[cfg(test)]
mod tests {
    use witgate_exchange::contracts::discovery::Readiness;

    use super::*;

    fn pair(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.into(), value: value.into() }
    }

    fn event(kind: i32, key: &str, value: &str) -> Event {
        Event { kind, kv: Some(pair(key, value)) }
    }

    #[test]
    fn values_have_three_forms() {
        let named = |spec: EndpointSpec| EndpointSpec { name: Some("a".into()), ..spec };
        assert_eq!(endpoint("a", b"10.0.0.1:80\n"), named(EndpointSpec::at("10.0.0.1", 80)));
        let table =
            br#"{"address": "[2001:db8::1]:81", "weight": 3, "priority": 1, "zone": "z", "ready": false}"#;
        let expected = EndpointSpec {
            weight: 3,
            priority: 1,
            zone: Some("z".into()),
            readiness: Readiness::NotServing,
            ..EndpointSpec::at("2001:db8::1", 81)
        };
        assert_eq!(endpoint("a", table), named(expected));
        let registered = br#"{"Op":0,"Addr":"10.0.0.2:80","Metadata":{"x":1}}"#;
        assert_eq!(endpoint("a", registered), named(EndpointSpec::at("10.0.0.2", 80)));
        let other = br#"{"address": "10.0.0.3:80", "name": "b"}"#;
        assert_eq!(endpoint("a", other).name.as_deref(), Some("b"));
    }

    #[test]
    fn values_that_cannot_be_used_give_no_address() {
        let long = "x".repeat(5000);
        for value in
            ["", "users", "{", "{\"weight\": 1}", "\u{1}", "10.0.0.1:99999", &long, &"[".repeat(4000)]
        {
            let spec = endpoint("a", value.as_bytes());
            assert!(spec.host.parse::<std::net::IpAddr>().is_err() && spec.host.len() <= 300, "{spec:?}");
        }
        assert!(endpoint("a", b"\xff\xfe").host.contains("not text"));
    }

    #[test]
    fn changes_apply_to_keys_of_the_prefix_only() {
        let mut keys = Keys::new("/users/");
        assert_eq!(keys.end(), b"/users0");
        for event in [
            event(0, "/users/a", "10.0.0.1:80"),
            event(0, "/users/b", "10.0.0.2:80"),
            event(0, "/others/c", "10.0.0.3:80"),
            event(1, "/users/a", ""),
            event(1, "/users/x", ""),
            event(7, "/users/b", ""),
            Event { kind: 0, kv: None },
        ] {
            keys.apply(&event).unwrap();
        }
        let hosts: Vec<String> = keys.endpoints().into_iter().map(|spec| spec.host).collect();
        assert_eq!(hosts, ["10.0.0.2"]);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut keys = Keys::new("/");
        let put = |number: usize| keys.put(&pair(&format!("/{number}"), "10.0.0.1:80"));
        let failed = (0..=MOST).map(put).find_map(Result::err);
        assert!(failed.is_some_and(|why| why.contains("more than 100000 keys")));
    }
}
