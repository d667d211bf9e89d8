//! Says afterwards what a request has cost. Of version 0.2.0.
//!
//! A limit by tokens draws an estimate before the request is sent, and says the cost when the response is there:
//!
//! ```
//! use witgate_sdk::{
//!     Bucket, Buckets, RateLimiting, Request, ResponseChanges, ResponseOutcome, ResponseView, Transformation, settlement,
//! };
//!
//! #[witgate_sdk::settings]
//! struct Tokens {
//!     per_minute: u32,
//! }
//!
//! impl RateLimiting for Tokens {
//!     fn draw(&self, request: &Request) -> Buckets {
//!         Some(Bucket { cost: 100, policy: "tokens".into(), ..Bucket::per_minute(self.per_minute, request.client_address()) })
//!             .into()
//!     }
//! }
//!
//! impl Transformation for Tokens {
//!     fn on_response(&self, response: &ResponseView, _: &Request, _: &[u8]) -> ResponseOutcome {
//!         // What the gateway answers by itself (`is_local`) used no tokens.
//!         let used = if response.is_local() { Some(0) } else { response.header("x-tokens-used").and_then(|used| used.parse().ok()) };
//!         if let Some(used) = used {
//!             settlement::cost("tokens", used);
//!         }
//!         ResponseChanges::none().into()
//!     }
//! }
//!
//! witgate_sdk::export!(Tokens: RateLimiting, Transformation);
//! # fn main() {
//! # use witgate_sdk::test;
//! # let (gateway, tokens) = (test::Gateway::new(), test::configure::<Tokens>(r#"{ "per_minute": 1000 }"#).unwrap());
//! # let response = test::response(200).header("x-tokens-used", "250").build();
//! # tokens.on_response(&response, &test::request().build(), &[]);
//! # assert_eq!(gateway.settled("tokens"), Some(250));
//! # }
//! ```

use super::backend;

/// Says the cost in the buckets that `draw` has named for this policy, in place of what it drew. It is settled once, when the
/// exchange ends; the last word counts. Returns false if the exchange has drawn from no such bucket.
pub fn cost(policy: &str, cost: u32) -> bool {
    backend::settlement::cost(policy, cost)
}
