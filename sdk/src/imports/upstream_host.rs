//! The `Host` that the upstream is to see. Needs a grant (`upstream_hosts`) that names it. Of version 0.2.0.
//!
//! ```
//! use witgate_sdk::{Destination, Request, routing, upstream_host};
//!
//! #[routing]
//! fn route(request: &Request) -> Option<Destination> {
//!     let tenant = request.path_parameter("tenant")?;
//!     // A tenant whose host is not granted keeps the host of the route.
//!     let _not_granted = upstream_host::set(&format!("{tenant}.tenants.example"));
//!     Some(Destination::to("tenants"))
//! }
//! # fn main() {
//! # let gateway = witgate_sdk::test::Gateway::new();
//! # route(&witgate_sdk::test::request().path_parameter("tenant", "acme").build());
//! # assert_eq!(gateway.upstream_host().as_deref(), Some("acme.tenants.example"));
//! # }
//! ```

use super::backend;

pub use crate::bindings::additions::witgate::plugin0_2_0::upstream_host::Error;

/// Sets the `Host`, with or without a port, before the request is sent. It changes neither the endpoint nor the name for which the
/// endpoint's certificate must be valid.
///
/// # Errors
/// It is not granted, or no host.
pub fn set(host: &str) -> Result<(), Error> {
    backend::upstream_host::set(host)
}
