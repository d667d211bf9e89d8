//! The contract `gate`: whether a request is let in at all.

use crate::plugin::{Interest, Plugin};
use crate::request::{Input, Request};
use crate::response::Response;

/// Lets requests in or answers them, before anybody asks who sent them: maintenance, blocked networks, bots. It sees
/// the head and the client, no identity and no body.
///
/// It is part of version 0.2.0 of the contracts, which is a draft: a gateway loads a plugin that uses it only with
/// `unstable = true` in `[plugins.NAME]`.
pub trait Gate: Plugin {
    /// The headers that the plugin reads.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// Promises that the result depends only on the settings and these inputs, so that the gateway may remember it,
    /// responses included; see [`Interest::pure`]. `None`: it may depend on anything.
    fn admits_by(&self) -> Option<Vec<Input>> {
        None
    }

    /// Decides about one request: `None` lets it go on, a response is sent instead.
    fn admit(&self, request: &Request) -> Option<Response>;
}
