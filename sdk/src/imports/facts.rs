//! Facts about the exchange in progress: its TLS connection, the client's certificate, where the response came from. Of version
//! 0.2.0. The result of a call that asks for any of them is not remembered.
//!
//! ```
//! use witgate_sdk::{Decision, Request, authentication, facts};
//!
//! #[authentication]
//! fn authenticate(_: &Request) -> Decision {
//!     match facts::certificate().and_then(|certificate| certificate.spiffe_id) {
//!         Some(id) => Decision::accept(&id),
//!         None => Decision::not_mine("SVID"),
//!     }
//! }
//! # fn main() {
//! # let gateway = witgate_sdk::test::Gateway::new();
//! # let request = witgate_sdk::test::request().build();
//! # assert_eq!(authenticate(&request), Decision::not_mine("SVID"));
//! # gateway.certificate(facts::ClientCertificate {
//! #     subject: "CN=api".into(), fingerprint: "00".into(), dns_names: vec![], emails: vec![], addresses: vec![],
//! #     uris: vec!["spiffe://example.org/api".into()], spiffe_id: Some("spiffe://example.org/api".into()),
//! # });
//! # assert_eq!(authenticate(&request), Decision::accept("spiffe://example.org/api"));
//! # }
//! ```

use super::backend;

pub use crate::bindings::additions::witgate::plugin0_2_0::facts::{
    ClientCertificate, ResponseOrigin, TlsSession,
};

/// The TLS connection by which the request came; `None` without TLS.
#[must_use]
pub fn tls() -> Option<TlsSession> {
    backend::facts::tls()
}

/// The verified certificate of the client, with its alternative names by their kind and its SPIFFE id.
#[must_use]
pub fn certificate() -> Option<ClientCertificate> {
    backend::facts::certificate()
}

/// Where the response of this call came from: endpoint, attempts, time, and which fault if the gateway made it. `None` in calls
/// without a response.
#[must_use]
pub fn origin() -> Option<ResponseOrigin> {
    backend::facts::origin()
}
