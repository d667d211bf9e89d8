//! TOML in, a validated and immutable [`Config`] out.
//!
//! Two shapes of the same thing live here: the configuration *as written* (private, close to TOML) and *as meant*
//! ([`model`]). Whoever reads a [`Config`] may rely on what its documentation promises: names resolve, numbers are in
//! range, addresses parse. Everything that is wrong is reported as a list of [`Problem`]s, never only the first.
//!
//! Settings of filters and plugins stay opaque here ([`Settings`]) until their owner parses them.

pub mod model;
mod problem;
mod settings;

pub use model::Config;
pub use problem::{Problem, Problems, SourceMap, Span};
pub use settings::Settings;
