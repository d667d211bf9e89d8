//! `bindings.NAME.credentials`, and the grants of credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::pointer::child;
use crate::scalar::{HeaderName, Text};

/// The headers that are credentials for every binding.
const ALWAYS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// What the plugin sees only if it is granted.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Credentials {
    Switch(Switch),
    List(List),
}

/// The headers that are credentials for every binding.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum Switch {
    Granted,
}

/// More credentials, in addition to the headers `authorization`, `cookie`, `proxy-authorization` and `set-cookie`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct List {
    /// Headers that carry credentials, for example `"x-api-key"`.
    headers: Vec<Text<HeaderName>>,
    /// Query parameters that carry credentials, for example `"apikey"`.
    query: Vec<Parameter>,
}

/// The name of a query parameter, decoded.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Parameter(#[schemars(length(min = 1))] String);

impl Credentials {
    /// Converts it to the model.
    pub(super) fn meant(self) -> model::Credentials {
        match self {
            Self::Switch(Switch::Granted) => model::Credentials::default(),
            Self::List(List { headers, query }) => model::Credentials {
                headers: headers.into_iter().map(|name| name.value.0).collect(),
                query: query.into_iter().map(|name| name.0).collect(),
            },
        }
    }
}

/// Whether a header, by its name in lower case, carries credentials.
pub(super) fn is_header(name: &str, listed: Option<&model::Credentials>) -> bool {
    ALWAYS.contains(&name) || listed.is_some_and(|listed| listed.headers.iter().any(|known| known == name))
}

/// The granted names at this pointer. Each is that of a credential.
pub(super) fn granted(
    names: Vec<String>,
    listed: Option<&model::Credentials>,
    at: &str,
    scope: &mut Scope,
) -> Vec<String> {
    let headers = listed.iter().flat_map(|listed| &listed.headers).map(String::as_str);
    let parameters: Vec<&str> = listed.iter().flat_map(|listed| &listed.query).map(String::as_str).collect();
    let headers: Vec<&str> = ALWAYS.into_iter().chain(headers).collect();
    let known: Vec<&str> = headers.iter().chain(&parameters).copied().collect();
    let meant = names.into_iter().enumerate().map(|(index, name)| {
        let lower = name.to_ascii_lowercase();
        if headers.contains(&lower.as_str()) && !parameters.contains(&name.as_str()) {
            return lower;
        }
        let hint = "everything else is visible without a grant, unless `credentials` of the binding lists it";
        scope.check_name(&child(at, &index.to_string()), "credential", &name, &known, hint.to_owned());
        name
    });
    meant.collect()
}
