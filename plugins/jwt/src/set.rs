//! Reading the text of a key set (RFC 7517 section 5) within limits.
//!
//! The server of the issuer determines the text, and a call has only its CPU budget to read it. So the text has a
//! maximum length, reading stops at the first key over the maximum number, and only those members of a key that
//! are used here are kept in memory; `x5c`, the longest one, is skipped.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The longest text, in bytes. For comparison: sixty keys with certificates have 280 KiB.
const LONGEST: usize = 512 << 10;

/// Maximum number of keys: more than issuers have, and few enough to try each of them.
const MOST_KEYS: usize = 64;

/// Number of items that are kept of a list in a key: more than there are key operations (RFC 7517 section 4.3).
const MOST_ITEMS: usize = 16;

/// The members of a key that are read; see `jwk`.
const MEMBERS: [&str; 11] = ["kty", "kid", "alg", "use", "key_ops", "crv", "k", "n", "e", "x", "y"];

/// The keys of a set, with the members that are used here.
///
/// # Errors
/// The text is too long, is not a key set, or has too many keys or none. A set without keys is more likely a
/// mistake of the issuer than a revocation of all its tokens.
pub(crate) fn read(text: &[u8]) -> Result<Vec<Value>, String> {
    if text.len() > LONGEST {
        return Err(format!("the key set has {} bytes, and at most {LONGEST} are read", text.len()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let keys = deserializer.deserialize_map(Document).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    // RFC 7517 section 4.1: every key must have this member.
    if !keys.iter().any(|key| key["kty"].is_string()) {
        return Err("the key set is empty".to_owned());
    }
    Ok(keys)
}

/// Writes the keys as the text of a set, which is shorter than the original.
pub(crate) fn write(keys: &[Value]) -> Vec<u8> {
    serde_json::json!({ "keys": keys }).to_string().into_bytes()
}

struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Vec<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key set, which is an object with a list `keys`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Value>, A::Error> {
        let mut keys = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "keys" {
                map.next_value::<IgnoredAny>()?;
            } else if keys.replace(map.next_value_seed(Keys)?).is_some() {
                return Err(A::Error::duplicate_field("keys"));
            }
        }
        keys.ok_or_else(|| A::Error::missing_field("keys"))
    }
}

struct Keys;

impl<'de> DeserializeSeed<'de> for Keys {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Keys {
    type Value = Vec<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of keys")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Value>, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = list.next_element_seed(Part::Key)? {
            if keys.len() == MOST_KEYS {
                return Err(A::Error::custom(format!("the key set has more than {MOST_KEYS} keys")));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

/// A value that is kept: an object with known members, a list of strings, a string, or nothing.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Member,
    Item,
}

/// Replaces a value of a type that no member has, so that reading the member reports an error.
const WRONG: Value = Value::Bool(true);

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if matches!(self, Part::Key) && MEMBERS.contains(&&*name) {
                let value = map.next_value_seed(Part::Member)?;
                members.insert(name, value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(if matches!(self, Part::Key) { Value::Object(members) } else { WRONG })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        if matches!(self, Part::Member) {
            while items.len() < MOST_ITEMS
                && let Some(item) = list.next_element_seed(Part::Item)?
            {
                items.push(item);
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if matches!(self, Part::Member) { Value::Array(items) } else { WRONG })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(WRONG)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(WRONG)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(WRONG)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(WRONG)
    }
}
