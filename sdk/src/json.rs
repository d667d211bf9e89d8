//! JSON in bodies, requests and responses.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contracts::by_body::Body;
use crate::imports::fetch::{InboundResponse, OutboundRequest};
use crate::response::Response;

/// Whether a `Content-Type` is one of JSON: `application/json`, or any type that ends with `+json` (RFC 6839 section 3.1).
///
/// ```
/// use witgate_sdk::is_json;
///
/// assert!(is_json("application/json") && is_json("Application/Problem+JSON; charset=utf-8"));
/// assert!(!is_json("text/json5") && !is_json("application/jsonp"));
/// ```
#[must_use]
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json") && essence.contains('/')
}

impl Body {
    /// The JSON of a body.
    ///
    /// ```
    /// use serde_json::Value;
    /// use witgate_sdk::Body;
    ///
    /// assert_eq!(Body::whole(r#"{"a":1}"#).json::<Value>().unwrap()["a"], 1);
    /// assert!(Body::whole("{").json::<Value>().is_err());
    /// ```
    ///
    /// # Errors
    /// It is not JSON, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }
}

impl InboundResponse {
    /// The JSON of the body.
    ///
    /// # Errors
    /// It is not JSON, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

impl OutboundRequest {
    /// Replaces the body by JSON, with its `Content-Type`.
    ///
    /// # Panics
    /// The value has no form in JSON, such as a map whose keys are not text.
    #[must_use]
    #[track_caller]
    pub fn with_json(mut self, value: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(value).expect("the value has a form in JSON");
        self.with_header("content-type", "application/json")
    }
}

impl Response {
    /// A response with JSON, with its `Content-Type`.
    ///
    /// ```
    /// use witgate_sdk::Response;
    ///
    /// let response = Response::json(201, &serde_json::json!({ "id": 4711 }));
    /// assert_eq!(response.header("content-type"), Some("application/json"));
    /// assert_eq!(response.body, br#"{"id":4711}"#);
    /// ```
    ///
    /// # Panics
    /// As [`OutboundRequest::with_json`].
    #[must_use]
    #[track_caller]
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("the value has a form in JSON");
        Self::new(status).with_header("content-type", "application/json").with_body(body)
    }
}
