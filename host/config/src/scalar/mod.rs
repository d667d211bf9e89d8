//! Strings with a format of their own: durations, sizes, addresses, names.
//!
//! Each is one file and one row of `FORMATS`: what it is, the type, how it is parsed, tests. A scalar appears in
//! the published schema as a string with the `format` of its name, and the checker explains mistakes in it by the
//! same table.
//!
//! Those that settings of filters use too are public: `Text<Size>` is a field that is written `"1MiB"`.

mod address;
mod digest;
mod duration;
mod grpc_method;
mod host;
mod net;
mod path;
mod size;
mod spiffe;
mod status;
mod token;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use address::{EndpointAddress, ListenAddress, Scheme};
pub(crate) use digest::Digest;
pub use duration::Duration;
pub(crate) use duration::DurationOrOff;
pub(crate) use grpc_method::{GrpcMethod, GrpcName};
pub(crate) use host::{HostName, HostPattern};
pub use net::Net;
pub(crate) use path::{Location, PathPattern, PathPrefix, PathTemplate};
pub use size::Size;
pub use spiffe::{CallerPattern, SpiffePattern, TrustDomain, parts_of_spiffe_id};
pub(crate) use status::StatusRange;
pub(crate) use token::Name;
pub use token::{HeaderName, Method};

/// A type that is written as a string.
pub trait Scalar: Sized {
    /// The `format` in the schema. The prefix tells it from the standard formats that plugins may use.
    const FORMAT: &'static str;
    /// What it is, for messages: "a duration such as ...".
    const WHAT: &'static str;
    /// The unit to suggest for a number without one.
    const UNIT: Option<&'static str> = None;
    /// Whether an integer is accepted as well.
    const INTEGER: bool = false;
    /// Parses it.
    ///
    /// # Errors
    /// Why it cannot be parsed, as the end of a sentence.
    fn read(text: &str) -> Result<Self, String>;
    /// What a text that cannot be parsed most likely means, in the right form.
    fn meant(_text: &str) -> Option<String> {
        None
    }
}

/// A row of [`FORMATS`].
pub(crate) struct Format {
    name: &'static str,
    /// See [`Scalar::WHAT`].
    pub(crate) what: &'static str,
    /// See [`Scalar::UNIT`].
    pub(crate) unit: Option<&'static str>,
    /// Whether a string is valid, and why not.
    pub(crate) check: fn(&str) -> Result<(), String>,
    /// See [`Scalar::meant`].
    pub(crate) meant: fn(&str) -> Option<String>,
}

const fn row<T: Scalar>() -> Format {
    Format {
        name: T::FORMAT,
        what: T::WHAT,
        unit: T::UNIT,
        check: |text| T::read(text).map(drop),
        meant: T::meant,
    }
}

/// Every scalar.
const FORMATS: &[Format] = &[
    row::<Duration>(),
    row::<DurationOrOff>(),
    row::<Size>(),
    row::<ListenAddress>(),
    row::<EndpointAddress>(),
    row::<Net>(),
    row::<HostPattern>(),
    row::<HostName>(),
    row::<Name>(),
    row::<HeaderName>(),
    row::<Method>(),
    row::<GrpcMethod>(),
    row::<GrpcName>(),
    row::<Digest>(),
    row::<PathPattern>(),
    row::<PathPrefix>(),
    row::<PathTemplate>(),
    row::<Location>(),
    row::<StatusRange>(),
    row::<TrustDomain>(),
    row::<SpiffePattern>(),
    row::<CallerPattern>(),
];

/// The format of this name, if it is one of this crate.
pub(crate) fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// A scalar as written, with its value. It is serialised as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Text<T> {
    text: String,
    /// Its value.
    pub value: T,
}

impl<T: Scalar> Text<T> {
    /// A built-in default.
    ///
    /// # Panics
    /// If the text is malformed.
    pub fn of(text: &str) -> Self {
        let value = T::read(text).unwrap_or_else(|why| panic!("the default {text:?} is malformed: {why}"));
        Self { text: text.to_owned(), value }
    }

    /// The string as it was written.
    pub fn as_written(&self) -> &str {
        &self.text
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) if T::INTEGER => number.to_string(),
            _ => return Err(serde::de::Error::custom(format!("expected {}", T::WHAT))),
        };
        let value = T::read(&text).map_err(serde::de::Error::custom)?;
        Ok(Self { text, value })
    }
}

impl<T> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<T: Scalar> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        if T::INTEGER {
            json_schema!({ "type": ["string", "integer"], "format": T::FORMAT, "minimum": 0 })
        } else {
            json_schema!({ "type": "string", "format": T::FORMAT })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_of_its_own() {
        for (index, row) in FORMATS.iter().enumerate() {
            assert!(row.name.starts_with("witgate-"), "{} could be mistaken for a standard format", row.name);
            assert!(
                FORMATS[..index].iter().all(|other| other.name != row.name),
                "{} is there twice",
                row.name
            );
        }
    }
}
