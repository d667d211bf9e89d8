//! TOML in, a validated and immutable [`Config`] out.
//!
//! Two shapes of the same thing live here: the configuration *as written* (private, close to TOML) and *as meant*
//! ([`model`]). Whoever reads a [`Config`] may rely on what its documentation promises: names resolve, numbers are in
//! range, addresses parse. Everything that is wrong is reported as a list of [`Problem`]s, never only the first.
//!
//! The walk, [`load()`]: `document` reads the files into one tree of values that remember their places, and replaces
//! `${VAR}` on the way (`expand`); `schema` checks the tree against the published [`schema()`], which is made from the
//! types in `written`; each section that is right by the schema is then read and says what it means. A section in
//! which something is wrong does not keep the others from being looked at.
//!
//! Settings of filters and plugins stay opaque here ([`Settings`]) until their owner parses them. A filter calls
//! [`Settings::parse`] with its own type; the settings of a plugin go through [`check_settings`] with the schema it
//! delivers, and what its `configure` finds is placed by [`Settings::problem`].
//!
//! To add a key: a field with its doc comment (and its default) in the section's file under `written`, what it means
//! beside it, its twin in [`model`], and a line in `tests/reference.toml`, which a test asks for. To add a kind of
//! string: a file and a row in [`scalar`].

mod document;
mod expand;
pub mod file;
mod load;
pub mod model;
mod pointer;
mod problem;
mod render;
pub mod scalar;
mod schema;
mod settings;
mod written;

pub use load::{Failure, Loaded, load, parse_str, proxy_config};
pub use model::Config;
pub use problem::{Problem, Problems, SourceMap, Span};
pub use render::render;
pub use settings::{Settings, check_settings};
pub use written::schema;
