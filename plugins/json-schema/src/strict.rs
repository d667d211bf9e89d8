//! Reads JSON so that all who read it see the same: no member twice in an object, and not deeper than is allowed.

use std::fmt;

use serde_json::{Map, Value};
use witgate_sdk::serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The value of a text.
///
/// # Errors
/// It is not JSON, has a member twice, or is deeper than `depth`; the text says where.
pub(crate) fn parse(text: &[u8], depth: u32) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { left: depth }.deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Reads one value that may have so many levels.
#[derive(Clone, Copy)]
struct Strict {
    left: u32,
}

impl Strict {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom("it is nested too deeply"))?;
        Ok(Self { left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom("an object has a member twice"));
            }
            let value = members.next_value_seed(inner)?;
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_may_read_differently_is_refused() {
        for (text, told) in [
            (r#"{"a":1,"b":{"a":2,"a":3}}"#, "twice"),
            (r#"{"a":1,"\u0061":2}"#, "twice"),
            ("[[[[1]]]]", "deeply"),
            (r#"{"a":{"a":{"a":{}}}}"#, "deeply"),
            ("1 2", "trailing"),
            ("", "EOF"),
            ("{\"a\":1,}", "trailing comma"),
            ("nan", "expected"),
            ("1e999", "out of range"),
            ("\"\u{1}\"", "control character"),
        ] {
            let why = parse(text.as_bytes(), 3).expect_err(text);
            assert!(why.contains(told), "{text}: {why}");
        }
        assert!(parse(b"\"\xff\"", 3).is_err());
        let good = r#" [[{"a":null}],1,-2,1.5,"x",true] "#;
        assert_eq!(
            parse(good.as_bytes(), 3).expect("JSON"),
            serde_json::from_str::<Value>(good).expect("JSON")
        );
    }
}
