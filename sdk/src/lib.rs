//! Write plugins for the Witgate gateway: one function, typed settings, native tests.
//!
//! A plugin is a WebAssembly component that answers one question about a request. This one, whole, asks who is calling:
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
//! `witgate plugin new NAME` makes a crate around it (the files are in `template/` beside this crate), `cargo test` tests
//! it, `witgate plugin build` makes the component. The crate needs nothing but `crate-type = ["cdylib", "rlib"]` and this
//! dependency.
//!
//! # The four contracts
//!
//! | attribute | the function answers | with |
//! |---|---|---|
//! | [`#[authentication]`](macro@authentication) | who is calling | a [`Decision`], an [`Identity`], a [`Response`] that refuses |
//! | [`#[rate_limiting]`](macro@rate_limiting) | which limits apply | a [`Bucket`], several, or none |
//! | [`#[routing]`](macro@routing) | where to | a [`Destination`], or none for the route's own |
//! | [`#[transformation]`](macro@transformation) | what changes | [`RequestChanges`], or a [`Response`] at once |
//!
//! They run in this order; what each may and may not do is said at its trait: [`Authentication`], [`RateLimiting`],
//! [`Routing`], [`Transformation`]. A function returns anything that converts into the contract's own type, so a `Result`
//! works, with `?` inside.
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
//! The same attribute on an `impl` of the contract's trait gives more room. Only there can a transformation look at
//! responses and bodies; the methods that are written say what the gateway is to call:
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
//! A component with several contracts implements the traits and says [`export!`] once.
//!
//! # Settings
//!
//! [`#[settings]`](macro@settings) makes a struct or an enum readable from a binding's `settings` table. Unknown keys are
//! refused, doc comments become the descriptions of the JSON Schema, and whatever is wrong is shown to the operator at
//! its line of the configuration. [`HeaderName`] and [`Period`] are values that check themselves; `check` names a
//! function for the rest:
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
//! An instance is configured once and serves many requests. Where something can be prepared (keys read, templates split),
//! implement [`Plugin`] for a type of your own and let the function take that instead of the settings. Nothing else should
//! be kept between requests: each core has instances of its own, and any may be replaced at any time. What must be shared
//! is in the [`store`].
//!
//! # What a call costs
//!
//! Method, path, query, authority and the **declared headers** come in with the call. Declare what you look at in the
//! attribute (or in `interest`, where it depends on the settings) and reading it is free; every other header or fact is
//! a call to the gateway when it is asked for.
//!
//! # Answers that are used again
//!
//! Most functions answer by little: a header, who is calling, the settings alone. Say so, and the gateway uses an answer
//! again for every request that agrees in these inputs, which costs less than a call.
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
//! `pure` is a promise: no state of the instance, no clock, no chance, no store and no fetch decides, and nobody misses the
//! log lines and metrics of calls that are not made. An empty list says that the answer is always the same. In an
//! `interest` method it is [`Interest::pure`], which can go by the settings. Every accessor of a [`Request`] reads one
//! [`Input`], and only those named come in with the call; the others are asked for. The gateway watches: the answer of a
//! call that asked for more is not used again, and the log says what it was. An answer that is meant for one request only
//! asks for the [request id](Request::request_id), and nobody is told. Acceptances of an authentication say by
//! themselves how long they hold, see [`Acceptance::cacheable_for`].
//!
//! # What else the gateway offers
//!
//! [`log`], [`metrics`], [`store`], [`fetch`], [`crypto`], [`clock`] and [`random`]. `store`, `fetch` and the upstreams of
//! the routing contract need a grant in the binding that names their objects. There is no file system, no socket and no
//! environment. Use [`crypto`] rather than a crate: the gateway computes in half the time, and in constant time where it
//! matters.
//!
//! Components get an allocator that is made for calls: many small blocks, soon freed. A crate that has a
//! `#[global_allocator]` of its own turns it off, with `default-features = false`.
//!
//! A panic ends the call, costs a new instance, and the binding's `on_failure` decides about the request; a plugin that
//! panics again and again is taken out of service. Say what is wrong with a request in the answer instead.
//!
//! # Tests
//!
//! Natively the whole gateway is played by [`test`](mod@test): `cargo test`, nothing else. The same tests run as
//! WebAssembly, in the engine of the gateway:
//!
//! ```sh
//! witgate plugin test --sandbox
//! ```
//!
//! builds the test binaries for `wasm32-wasip2` with the SDK's feature `test`, in which the mocks answer all imports but
//! [`crypto`], which goes to the gateway's own. A panic ends an instance, so every test gets one of its own, with 60
//! seconds and 256 MiB; tests marked `#[should_panic]` are ignored there. Beside what plugins may import there are only
//! arguments and standard output: no environment, no files, no sockets.

extern crate self as witgate_sdk;

#[cfg(any(test, all(target_family = "wasm", not(target_feature = "atomics"), feature = "allocator")))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
mod contracts;
mod export;
mod headers;
mod imports;
mod plugin;
mod request;
mod response;
#[cfg(any(not(target_family = "wasm"), feature = "test"))]
pub mod test;
mod values;

pub use contracts::authentication::{Acceptance, Authentication, Decision};
pub use contracts::rate_limiting::{Bucket, Buckets, RateLimiting};
pub use contracts::routing::{Destination, Routing};
pub use contracts::transformation::{
    BodyResult, Chunk, ComposedHeader, HeaderChange, RequestChanges, RequestOutcome, ResponseChanges,
    ResponseOutcome, Transformation, ValuePart,
};
pub use headers::Values;
pub use imports::{clock, crypto, fetch, log, metrics, random, store};
pub use plugin::{BodyAccess, Function, Interest, NoSettings, Plugin, Settings, SettingsProblem};
pub use request::{Header, Identity, Input, Request};
pub use response::{Response, ResponseView};
pub use values::{HeaderName, Period};
pub use witgate_sdk_macros::{authentication, rate_limiting, routing, settings, transformation};

/// What settings are read with, for types that need more than [`settings`](macro@settings) derives.
pub use {schemars, serde};

/// What the macros expand to. Not for plugins.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::{Component, Instance, in_use};
    pub use wit_bindgen::rt as runtime;
}
