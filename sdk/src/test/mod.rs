//! Mocks of the gateway for tests.
//!
//! In a native build these mocks implement every import, so that tests need no gateway and no WebAssembly, only
//! `cargo test`. [`request`] and [`response`] build what a plugin reads, [`configure`] reads settings as the
//! gateway does, and a [`Gateway`] mocks the rest: upstreams for `fetch`, the clock, the log, the metrics and the
//! store. Cryptography is computed, not mocked.
//!
//! ```
//! use std::time::Duration;
//! use witgate_sdk::{clock, fetch, store, test};
//!
//! let gateway = test::Gateway::new();
//! gateway.upstream("idp", |request| Ok(fetch::InboundResponse::new(200, format!("you asked for {}", request.path))));
//! assert_eq!(fetch::get("idp", "/keys").send()?.body, b"you asked for /keys");
//!
//! store::space("sessions").set("4711", "alice", Some(Duration::from_secs(60))).unwrap();
//! gateway.advance(Duration::from_secs(61));
//! assert_eq!(store::space("sessions").get("4711"), Ok(None));
//! # Ok::<(), fetch::Error>(())
//! ```

mod composed;
mod gateway;
mod parts;

pub(crate) mod calendar;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod crypto;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod crypto_additions;
pub(crate) mod data;
pub(crate) mod ending;
pub(crate) mod facts;
pub(crate) mod fetch;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod notes;
pub(crate) mod observed;
pub(crate) mod password;
pub(crate) mod response_body;
pub(crate) mod settlement;
pub(crate) mod span;
pub(crate) mod store;
pub(crate) mod upstream_host;

use crate::plugin::{self, Plugin, SettingsProblem};

pub use composed::composed;
pub use gateway::Gateway;
pub(crate) use gateway::now;
pub use parts::{RequestBuilder, ResponseBuilder, request, response};
pub(crate) use parts::{RequestParts, ResponseParts};

/// Makes a plugin from settings as the gateway does, with the same checks and the same problems.
///
/// ```
/// #[witgate_sdk::settings]
/// #[derive(Debug)]
/// struct Settings {
///     limit: u32,
/// }
///
/// let settings: Settings = witgate_sdk::test::configure(r#"{ "limit": 5 }"#).unwrap();
/// assert_eq!(settings.limit, 5);
///
/// let problems = witgate_sdk::test::configure::<Settings>(r#"{ "limit": "five" }"#).unwrap_err();
/// assert_eq!(problems[0].pointer, "/limit");
/// ```
///
/// # Errors
/// The problems with the settings.
pub fn configure<P: Plugin>(settings: impl AsRef<str>) -> Result<P, Vec<SettingsProblem>> {
    plugin::configure(settings.as_ref())
}

/// The JSON Schema of a plugin's settings, as the gateway gets it.
#[must_use]
pub fn schema<P: Plugin>() -> serde_json::Value {
    serde_json::from_str(&plugin::schema::<P>()).expect("a schema is JSON")
}
