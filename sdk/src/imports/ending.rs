//! Ends an exchange while the body of its request is still read. Of version 0.2.0.
//!
//! ```
//! use witgate_sdk::{BodyResult, Chunk, Request, Response, Transformation, ending, transformation};
//!
//! #[transformation(request_body = streamed)]
//! impl Transformation for NoScripts {
//!     fn on_request_body(&self, chunk: Chunk, _: &Request) -> BodyResult {
//!         if chunk.content.windows(8).any(|bytes| bytes == b"<script>") {
//!             ending::respond(&Response::problem(422, "Scripts are not accepted"));
//!         }
//!         BodyResult::unchanged()
//!     }
//! }
//!
//! #[witgate_sdk::settings]
//! struct NoScripts {}
//! # fn main() {
//! # use witgate_sdk::test;
//! # let (gateway, plugin) = (test::Gateway::new(), test::configure::<NoScripts>("{}").unwrap());
//! # let chunk = Chunk { content: b"<p><script>".to_vec(), end: false, context: Vec::new() };
//! # plugin.on_request_body(chunk, &test::request().build());
//! # assert_eq!(gateway.ended_with().unwrap().status, 422);
//! # }
//! ```

use super::backend;
use crate::response::Response;

/// Called in `on_request_body`: the exchange ends with this response, and what the function returns is not used. Part of the request
/// may have been sent to the upstream by then. If the head of a response is on its way to the client already, the response is cut
/// off instead. Returns false in every other call, where it does nothing.
pub fn respond(response: &Response) -> bool {
    backend::ending::respond(response)
}
