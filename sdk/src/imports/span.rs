//! The span of this call in the trace of the request. Of version 0.2.0.
//!
//! ```
//! use witgate_sdk::span;
//!
//! # let gateway = witgate_sdk::test::Gateway::new();
//! # gateway.sample_trace();
//! if span::sampled() {
//!     span::attribute("tokens", 17);
//! }
//! # assert_eq!(gateway.attributes(), [("tokens".to_owned(), "17".to_owned())]);
//! ```

use std::fmt::Display;

use super::backend;

/// Whether the trace is sampled. If not, attributes go nowhere: do not compute them.
#[must_use]
pub fn sampled() -> bool {
    backend::span::sampled()
}

/// Adds an attribute, which the trace shows as `plugin.` and `name`: at most 64 lower-case letters, digits, `_` and `.`. One call
/// has at most 16, of 256 bytes each; what breaks these bounds is left out or cut.
pub fn attribute(name: &str, value: impl Display) {
    backend::span::attribute(name, &value.to_string());
}
