//! A single value in place of a list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One value, or a list of them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values in the order written.
    pub(crate) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

/// The values of a singular key and of its plural; at most one of them is written.
pub(crate) fn either<T>(one: Option<OneOrMany<T>>, many: Option<OneOrMany<T>>) -> Vec<T> {
    one.or(many).map(OneOrMany::into_vec).unwrap_or_default()
}
