//! The body of the response in progress. Of version 0.2.0.
//!
//! A transformation that declares `response_body` pays for it with every response: no `Content-Length`, weak `ETag`s, no ranges,
//! codings undone, a call for each piece. One that needs only some bodies declines the others:
//!
//! ```
//! use witgate_sdk::{
//!     BodyResult, Chunk, Request, ResponseChanges, ResponseOutcome, ResponseView, Transformation, response_body,
//!     transformation,
//! };
//!
//! #[transformation(response_headers = ["content-type"], response_body = streamed)]
//! impl Transformation for Shout {
//!     fn on_response(&self, response: &ResponseView, _: &Request, _: &[u8]) -> ResponseOutcome {
//!         // The gateway's own responses (`is_local`) are none of the upstream's pages.
//!         if response.is_local() || response.header("content-type") != Some("text/plain") {
//!             response_body::decline();
//!         }
//!         ResponseChanges::none().into()
//!     }
//!
//!     fn on_response_body(&self, chunk: Chunk, _: &ResponseView, _: &Request) -> BodyResult {
//!         BodyResult::replace(chunk.content.to_ascii_uppercase())
//!     }
//! }
//!
//! #[witgate_sdk::settings]
//! struct Shout {}
//! # fn main() {
//! # use witgate_sdk::test;
//! # let (gateway, shout) = (test::Gateway::new(), test::configure::<Shout>("{}").unwrap());
//! # let image = test::response(200).header("content-type", "image/png").build();
//! # shout.on_response(&image, &test::request().build(), &[]);
//! # assert!(gateway.declined_body());
//! # }
//! ```

use super::backend;

/// Called in `on_request` or `on_response`: the body of this response goes by as it is. In `on_request`, ranges and codings are asked
/// for as the client does, too. Elsewhere it does nothing.
pub fn decline() {
    backend::response_body::decline();
}
