//! Write plugins for the Witgate gateway: one function, typed settings, native tests.
//!
//! A plugin is a WebAssembly component that decides one question about a request. This complete plugin decides who
//! is calling:
//!
//! ```
//! //! Lets in whoever knows the key.
//! use witgate_sdk::{Decision, Request, authentication, crypto, settings};
//!
//! #[settings]
//! struct Settings {
//!     key: String,
//! }
//!
//! #[authentication(headers = ["x-api-key"])]
//! fn authenticate(request: &Request, settings: &Settings) -> Decision {
//!     match request.header("x-api-key") {
//!         Some(key) if crypto::equal(key, &settings.key) => Decision::accept("key-holder"),
//!         _ => Decision::not_mine("ApiKey"),
//!     }
//! }
//! # fn main() {
//! # let settings: Settings = witgate_sdk::test::configure(r#"{ "key": "open-sesame" }"#).unwrap();
//! # let request = witgate_sdk::test::request().header("X-Api-Key", "open-sesame").build();
//! # assert_eq!(authenticate(&request, &settings), Decision::accept("key-holder"));
//! # assert_eq!(authenticate(&witgate_sdk::test::request().build(), &settings), Decision::not_mine("ApiKey"));
//! # }
//! ```
//!
//! `witgate plugin new NAME` creates a crate with this plugin (from the files in `template/` beside this crate),
//! `cargo test` tests it, and `witgate plugin build` builds the component. The crate needs only
//! `crate-type = ["cdylib", "rlib"]` and this dependency.
//!
//! # The four contracts
//!
//! | attribute | the function decides | and returns |
//! |---|---|---|
//! | [`#[authentication]`](macro@authentication) | who is calling | a [`Decision`], an [`Identity`], or a [`Response`] that refuses the request |
//! | [`#[rate_limiting]`](macro@rate_limiting) | which limits apply | a [`Bucket`], several, or none |
//! | [`#[routing]`](macro@routing) | where the request is sent | a [`Destination`], or `None` for that of the route |
//! | [`#[transformation]`](macro@transformation) | what changes | [`RequestChanges`], or a [`Response`] instead of the upstream's |
//!
//! They run in this order. The traits document what each of them may do: [`Authentication`], [`RateLimiting`],
//! [`Routing`], [`Transformation`]. A function returns anything that converts into the contract's own type, so a
//! `Result` works, with `?` inside.
//!
//! ```
//! use witgate_sdk::{Bucket, Request, rate_limiting};
//!
//! #[rate_limiting]
//! fn draw(request: &Request) -> Bucket {
//!     Bucket::per_minute(60, request.client_address())
//! }
//! # fn main() {
//! # assert_eq!(draw(&witgate_sdk::test::request().build()).key, "192.0.2.1");
//! # }
//! ```
//!
//! # Gates and decisions on a body
//!
//! Version 0.2.0 of the contracts, which is a draft, adds four. A gateway loads a plugin that uses them only if its
//! table `[plugins.NAME]` says `unstable = true`.
//!
//! | attribute | the function decides | and returns |
//! |---|---|---|
//! | [`#[gate]`](macro@gate) | whether the request is let in at all | a [`Response`], or `None` to let it go on |
//! | [`#[authentication_by_body]`](macro@authentication_by_body) | who is calling | a [`Decision`] |
//! | [`#[refusal_by_body]`](macro@refusal_by_body) | whether the body is refused | a [`Response`], or `None` |
//! | [`#[routing_by_body]`](macro@routing_by_body) | where the request is sent | a [`Destination`], or `None` |
//!
//! The gate runs first, each decision on a body after the contract that decides by the head (the refusal after rate
//! limiting). `whole = BYTES` gives a decision all of the body and answers longer ones with 413; `peek = BYTES` gives
//! it the beginning, and [`Body::complete`](struct@Body) says whether that is all. Add `decoded` to undo gzip, br and
//! zstd; without it the bytes are as they were received, which is what signatures cover.
//!
//! ```
//! use witgate_sdk::{Body, Request, Response, refusal_by_body};
//!
//! #[refusal_by_body(whole = 64 * 1024, decoded)]
//! fn refuse(body: &Body, _: &Request) -> Option<Response> {
//!     let deepest = body.bytes.iter().filter(|byte| **byte == b'{').count();
//!     (deepest > 20).then(|| Response::problem(422, "The query is nested too deeply"))
//! }
//! # fn main() {
//! # use witgate_sdk::test;
//! # assert!(refuse(&Body::whole("{}"), &test::request().build()).is_none());
//! # assert_eq!(refuse(&Body::whole("{".repeat(30)), &test::request().build()).unwrap().status, 422);
//! # }
//! ```
//!
//! # Bodies, responses, several contracts
//!
//! The same attribute on an `impl` of the contract's trait offers more: only there can a transformation read
//! responses and bodies. The gateway calls the methods that the block has:
//!
//! ```
//! use witgate_sdk::{
//!     BodyResult, Chunk, Request, ResponseChanges, ResponseOutcome, ResponseView, Transformation,
//!     transformation,
//! };
//!
//! #[transformation(response_headers = ["server"], response_body = streamed)]
//! impl Transformation for Shout {
//!     fn on_response(&self, response: &ResponseView, _: &Request, _: &[u8]) -> ResponseOutcome {
//!         match response.header("server") {
//!             Some(_) => ResponseChanges::none().remove("server").into(),
//!             None => ResponseChanges::none().into(),
//!         }
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
//! # let shout: Shout = witgate_sdk::test::configure("{}").unwrap();
//! # let interest = shout.interest();
//! # assert!(interest.response && interest.response_headers == ["server"]);
//! # assert_eq!(interest.response_body, witgate_sdk::BodyAccess::Streamed);
//! # assert_eq!(interest.request_body, witgate_sdk::BodyAccess::None);
//! # }
//! ```
//!
//! A component with several contracts implements the traits and calls [`export!`] once.
//!
//! # Settings
//!
//! [`#[settings]`](macro@settings) makes a struct or an enum readable from a binding's `settings` table. Unknown
//! keys are refused, doc comments become the descriptions of the JSON Schema, and every problem is reported to the
//! operator with its line of the configuration. The types [`HeaderName`] and [`Period`] check their values;
//! `check` names a function for all other checks:
//!
//! ```
//! use witgate_sdk::{SettingsProblem, settings};
//!
//! #[settings(check = problems)]
//! struct Settings {
//!     /// The share to let through, in percent.
//!     #[serde(default)]
//!     percent: u8,
//! }
//!
//! fn problems(settings: &Settings) -> Vec<SettingsProblem> {
//!     if settings.percent > 100 { vec![SettingsProblem::new("/percent", "at most 100")] } else { vec![] }
//! }
//!
//! assert!(witgate_sdk::test::configure::<Settings>(r#"{ "percent": 101 }"#).is_err());
//! ```
//!
//! An instance is configured once and serves many requests. To prepare something once (parse keys or templates),
//! implement [`Plugin`] for a type of your own and let the function take that type instead of the settings. Keep
//! no other state between requests: each core has instances of its own, and each may be replaced at any time. Keep
//! shared state in the [`store`].
//!
//! Secrets have the type [`Secret`], networks the type [`Network`].
//!
//! # Bodies, forms, cookies, problems
//!
//! [`Body::json`], [`Response::json`] and [`Form`] read and write bodies, [`encoding`] has hexadecimal digits and base64,
//! [`SetCookie`] writes `Set-Cookie`, and [`Problem::fault`] makes a problem document with `type` and `code` as the gateway's own have them.
//!
//! # What a call costs
//!
//! Method, path, query, authority and the **declared headers** are passed with the call. Declare the headers that
//! you read in the attribute (or in `interest`, if they depend on the settings), and reading them is free. Reading
//! any other header or fact is a call to the gateway.
//!
//! # Remembered results
//!
//! The results of most functions depend on few inputs: a header, the identity, or the settings alone. If a
//! function declares its inputs, the gateway remembers its result for all requests that agree in these inputs,
//! which costs less than a call.
//!
//! ```
//! use witgate_sdk::{Destination, Input, Request, routing};
//!
//! #[routing(headers = ["x-preview"], pure = [Input::header("x-preview")])]
//! fn route(request: &Request) -> Option<Destination> {
//!     (request.header("x-preview") == Some("yes")).then(|| Destination::to("preview"))
//! }
//! # fn main() {
//! # use witgate_sdk::{Routing, Function, Interest, test};
//! # let preview = test::request().header("x-preview", "yes").build();
//! # assert_eq!(route(&preview), Some(Destination::to("preview")));
//! # }
//! ```
//!
//! `pure` is a promise: the result does not depend on state of the instance, a clock, random numbers, the store or
//! a fetch, and the log lines and metrics of calls that are not made may be missing. An empty list means that the
//! result is always the same. In an `interest` method use [`Interest::pure`], which can depend on the settings.
//! Every accessor of a [`Request`] reads one [`Input`]. Only the named inputs are passed with the call; reading
//! another one is a call to the gateway. The gateway checks the promise: the result of a call that read more is
//! not remembered, and a line in the log says what it read. If a result is valid for one request only, read the
//! [request id](Request::request_id); then no line is logged. Acceptances of an authentication say how long they
//! are valid, see [`Acceptance::cacheable_for`].
//!
//! # What else the gateway offers
//!
//! [`log`], [`metrics`], [`store`], [`fetch`], [`crypto`], [`clock`] and [`random`]; of version 0.2.0 also [`data`],
//! [`password`], [`calendar`], [`notes`], [`facts`], [`span`], [`response_body`], [`ending`],
//! [`upstream_host`], [`settlement`] and [`observed`]. `store`, `fetch`, `data`, `notes` and the
//! upstreams of the routing contract need a grant in the binding that names their objects. There are no other files,
//! sockets or environment variables. Use [`crypto`] rather than a crate: the gateway computes faster, and in
//! constant time where necessary.
//!
//! A component has the standard library's allocator. With the SDK's feature `allocator` it has one that is faster for many
//! small blocks that are soon freed, which is what most calls ask for; it never joins freed blocks to larger ones. Do not turn
//! it on in a crate that has a `#[global_allocator]` of its own.
//!
//! A panic ends the call and the instance, and the binding's `on_failure` decides about the request; a plugin that
//! panics for nearly every request is put in quarantine. So report what is wrong with a request in the result
//! instead.
//!
//! # Tests
//!
//! In a native build, [`test`](mod@test) mocks the whole gateway, so `cargo test` needs nothing else. The same
//! tests also run as WebAssembly, in the engine of the gateway:
//!
//! ```sh
//! witgate plugin test --sandbox
//! ```
//!
//! builds the test binaries for `wasm32-wasip2` with the SDK's feature `test`, in which the mocks implement all
//! imports except [`crypto`], which the gateway implements. A panic ends an instance, so every test runs in an
//! instance of its own, with 60 seconds and 256 MiB; tests marked `#[should_panic]` are ignored there. In addition
//! to the imports of plugins there are only arguments and standard output: no environment variables, files or
//! sockets.

extern crate self as witgate_sdk;

#[cfg(any(test, all(target_family = "wasm", not(target_feature = "atomics"), feature = "allocator")))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
mod checked;
mod contracts;
pub mod encoding;
mod export;
mod form;
mod headers;
mod imports;
mod json;
mod network;
mod plugin;
mod problem;
mod request;
mod response;
mod secret;
mod set_cookie;
#[cfg(any(not(target_family = "wasm"), feature = "test"))]
pub mod test;
mod values;

pub use contracts::authentication::{Acceptance, Authentication, Decision};
pub use contracts::by_body::{AuthenticationByBody, Body, Reading, RefusalByBody, RoutingByBody};
pub use contracts::gate::Gate;
pub use contracts::observe::{End, Exchange, Observe, Step};
pub use contracts::rate_limiting::{Bucket, Buckets, RateLimiting};
pub use contracts::routing::{Destination, Routing};
pub use contracts::tick::Tick;
pub use contracts::transformation::{
    BodyResult, Chunk, ComposedHeader, HeaderChange, RequestChanges, RequestOutcome, ResponseChanges,
    ResponseOutcome, Transformation, ValuePart,
};
pub use form::{FORM, Form, form_encoded};
pub use headers::Values;
pub use imports::{
    calendar, clock, crypto, data, ending, facts, fetch, log, metrics, notes, observed, password, random,
    response_body, settlement, span, store, upstream_host,
};
pub use json::is_json;
pub use network::Network;
pub use plugin::{BodyAccess, Function, Interest, NoSettings, Plugin, Settings, SettingsProblem};
pub use problem::Problem;
pub use request::{Header, Identity, Input, Request};
pub use response::{Response, ResponseView};
pub use secret::Secret;
pub use set_cookie::{SameSite, SetCookie};
pub use values::{HeaderName, Period};
pub use witgate_sdk_macros::{
    authentication, authentication_by_body, gate, observe, rate_limiting, refusal_by_body, routing,
    routing_by_body, settings, tick, transformation,
};

/// Crates for reading settings, for types that need more than [`settings`](macro@settings) derives.
pub use {schemars, serde};

/// Used by the expansion of the macros. Not for plugins.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::{Component, Instance, in_use};
    pub use wit_bindgen::rt as runtime;
}
