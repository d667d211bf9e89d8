//! TOML in, a validated and immutable [`Config`] out.
//!
//! There are two shapes of a configuration: *as written* (private, close to TOML) and *as meant* ([`model`]).
//! Users of a [`Config`] may rely on what its documentation promises: names resolve, numbers are in range,
//! addresses parse. All mistakes are reported together, as a list of [`Problem`]s.
//!
//! The steps of [`load()`]: `document` reads the files into one tree of values with their positions, and replaces
//! `${VAR}` (`expand`); `schema` checks the tree against the published [`schema()`], which is made from the types
//! in `written`; each section that satisfies the schema is then deserialised and converted to the model. A mistake
//! in one section does not keep the others from being checked.
//!
//! Settings of filters and plugins stay opaque here ([`Settings`]) until their owner parses them. A filter calls
//! [`Settings::parse`] with its own type; the settings of a plugin go through [`check_settings`] with the schema
//! that the plugin delivers, and the findings of its `configure` get their position from [`Settings::problem`].
//!
//! To add a key: a field with its doc comment (and its default) in the section's file under `written`, its
//! conversion beside it, its counterpart in [`model`], and a line in `tests/reference.toml`, which a test asks
//! for. To add a kind of string: a file and a row in [`scalar`].

mod document;
mod duplicate;
mod expand;
pub mod file;
mod load;
pub mod model;
mod pointer;
mod problem;
mod redact;
mod render;
pub mod scalar;
mod schema;
mod settings;
mod written;

pub use load::{Failure, Loaded, load, parse_str, proxy_config};
pub use model::Config;
pub use problem::{Problem, Problems, SourceMap, Span};
pub use redact::Inserted;
pub use render::{render, render_for_log};
pub use settings::{Settings, check_settings};
pub use written::schema;
