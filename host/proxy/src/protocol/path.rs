//! The one normal form of a path, for what clients send and for what routes and plugins rewrite.

use http::uri::PathAndQuery;
use witgate_config::model::EncodedSlashes;

use crate::fault::Fault;

/// Normalises a path with query, if any: dot segments, percent-encoding, empty segments.
///
/// # Errors
/// `BadPath` if it does not begin with `/`, or holds what cannot be interpreted safely: `%00`, control bytes, malformed
/// percent-encoding, or, unless they are opaque, encoded slashes and backslashes.
pub fn normalise(_target: &str, _encoded_slashes: EncodedSlashes) -> Result<PathAndQuery, Fault> {
    todo!("protocol")
}
