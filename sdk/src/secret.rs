//! Secrets in settings.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A secret in settings. It is written as a reference, `"${file:/run/secrets/key}"` or `"${KEY}"`, which the gateway replaces when it
/// reads the configuration. It is never printed, and an empty one is refused; white space around it is removed, because files
/// end with a new line.
///
/// ```
/// use witgate_sdk::{Secret, settings, test};
///
/// #[settings]
/// #[derive(Debug)]
/// struct Settings {
///     key: Secret,
/// }
///
/// let settings: Settings = test::configure(r#"{ "key": "open-sesame\n" }"#).unwrap();
/// assert_eq!(settings.key.reveal(), "open-sesame");
/// assert_eq!(format!("{settings:?}"), "Settings { key: Secret(..) }");
/// assert!(test::configure::<Settings>(r#"{ "key": " " }"#).is_err());
/// ```
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

impl Secret {
    /// The secret itself. Compare it by [`crypto::equal`](crate::crypto::equal).
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Secret {
    type Error = &'static str;

    fn try_from(written: String) -> Result<Self, &'static str> {
        let secret = written.trim();
        if secret.is_empty() {
            return Err("a secret is not empty: write e.g. \"${file:/run/secrets/key}\"");
        }
        Ok(Self(secret.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A secret, best written as a reference: `${file:/run/secrets/key}` or `${KEY}`.",
            "minLength": 1,
            "writeOnly": true,
        })
    }
}
