//! Problem documents (RFC 9457) with a type and a code, as the gateway itself sends them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::response::Response;

/// A problem document. The gateway's own have a `type` of the form `urn:witgate:fault:CODE`, a `code` that clients may match on,
/// and the title of that code; [`Problem::fault`] makes one of the same form.
///
/// ```
/// use witgate_sdk::{Problem, Response};
///
/// let response: Response = Problem::fault(403, "forbidden", "The caller may not do this")
///     .detail("orders of others cannot be changed")
///     .with("order", 4711)
///     .into();
/// let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
/// assert_eq!(body["type"], "urn:witgate:fault:forbidden");
/// assert_eq!((body["code"].as_str(), body["order"].as_u64()), (Some("forbidden"), Some(4711)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: u16,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem with a title, which is the same for all problems of its type.
    #[must_use]
    pub fn new(status: u16, title: &str) -> Self {
        let mut members = Map::new();
        members.insert("status".to_owned(), status.into());
        members.insert("title".to_owned(), title.into());
        Self { status, members }
    }

    /// A problem of the gateway's form, with one of its codes, or a code of the plugin's own: lower-case words with hyphens.
    #[must_use]
    pub fn fault(status: u16, code: &str, title: &str) -> Self {
        Self::new(status, title).with("type", format!("urn:witgate:fault:{code}")).with("code", code)
    }

    /// What is wrong with this request in particular. Clients see it: it must hold no secrets.
    #[must_use]
    pub fn detail(self, detail: &str) -> Self {
        self.with("detail", detail)
    }

    /// Adds a member.
    ///
    /// # Panics
    /// The value has no form in JSON.
    #[must_use]
    #[track_caller]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).expect("the value has a form in JSON");
        self.members.insert(name.to_owned(), value);
        self
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status)
            .with_header("content-type", "application/problem+json")
            .with_body(Value::Object(problem.members).to_string())
    }
}
