//! The attribute macros of `witgate-sdk`. Use them through that crate, which documents them with examples.

mod background;
mod contract;
mod settings;

use proc_macro::TokenStream;

use contract::Contract;

/// Derives what settings need: deserialization that refuses unknown keys, the JSON Schema, and the SDK's
/// `Settings` trait.
///
/// Doc comments become descriptions in the schema. The variants of an enum are written in `snake_case`. Further
/// `#[serde(...)]` and `#[schemars(...)]` attributes work as usual. `#[settings(check = path)]` names a function
/// from `&Self` to `Vec<SettingsProblem>` that checks the values.
#[proc_macro_attribute]
pub fn settings(arguments: TokenStream, item: TokenStream) -> TokenStream {
    settings::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a component of an authentication plugin: of a function from `&Request` (and `&Settings`) to a type that
/// converts into a `Decision`, or of an `impl Authentication`.
///
/// `headers = ["x-api-key"]` names the request headers that are passed with each call.
#[proc_macro_attribute]
pub fn authentication(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::Authentication, arguments, item)
}

/// Makes a component of a rate limiting plugin: of a function from `&Request` (and `&Settings`) to a type that
/// converts into `Buckets`, or of an `impl RateLimiting`.
///
/// `headers = ["x-tenant"]` names the request headers that are passed with each call.
/// `pure = [Input::header("x-tenant")]` promises that the result depends only on these inputs and the settings, so
/// that the gateway may remember it.
#[proc_macro_attribute]
pub fn rate_limiting(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::RateLimiting, arguments, item)
}

/// Makes a component of a routing plugin: of a function from `&Request` (and `&Settings`) to a `Destination` or an
/// `Option<Destination>`, or of an `impl Routing`.
///
/// `headers = ["x-canary"]` names the request headers that are passed with each call.
/// `pure = [Input::header("x-canary")]` promises that the result depends only on these inputs and the settings, so
/// that the gateway may remember it.
#[proc_macro_attribute]
pub fn routing(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::Routing, arguments, item)
}

/// Makes a component of a transformation plugin: of a function from `&Request` (and `&Settings`) to a type that
/// converts into a `RequestOutcome`, or of an `impl Transformation`, which may change responses and bodies too.
///
/// `headers = ["accept"]` and `response_headers = ["content-type"]` name the headers that are passed with each
/// call. The gateway calls the methods that the impl block has; bodies are buffered unless
/// `request_body = streamed` or `response_body = streamed` is given. `pure = [Input::header("accept")]` promises
/// that the result for a request's head depends only on these inputs and the settings, so that the gateway may
/// remember it.
#[proc_macro_attribute]
pub fn transformation(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::Transformation, arguments, item)
}

/// Makes a component of a gate: of a function from `&Request` (and `&Settings`) to a type that converts into
/// `Option<Response>`, or of an `impl Gate`. `None` lets the request go on.
///
/// `headers = ["user-agent"]` names the request headers that are passed with each call.
/// `pure = [Input::ClientAddress]` promises that the result depends only on these inputs and the settings, so that
/// the gateway may remember it, responses included.
#[proc_macro_attribute]
pub fn gate(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::Gate, arguments, item)
}

/// Makes a component of a plugin that authenticates by the body: of a function from `&Body` and `&Request` (and
/// `&Settings`) to a type that converts into a `Decision`, or of an `impl AuthenticationByBody`.
///
/// `whole = BYTES` or `peek = BYTES` says how much of the body is read, `decoded` that its content coding is undone.
/// `headers = ["x-signature"]` names the request headers that are passed with each call.
#[proc_macro_attribute]
pub fn authentication_by_body(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::AuthenticationByBody, arguments, item)
}

/// Makes a component of a plugin that refuses requests by the body: of a function from `&Body` and `&Request` (and
/// `&Settings`) to a type that converts into `Option<Response>`, or of an `impl RefusalByBody`. `None` lets the
/// request go on. The arguments are those of [`macro@authentication_by_body`].
#[proc_macro_attribute]
pub fn refusal_by_body(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::RefusalByBody, arguments, item)
}

/// Makes a component of a plugin that routes by the body: of a function from `&Body` and `&Request` (and
/// `&Settings`) to a `Destination` or an `Option<Destination>`, or of an `impl RoutingByBody`. The arguments are
/// those of [`macro@authentication_by_body`].
#[proc_macro_attribute]
pub fn routing_by_body(arguments: TokenStream, item: TokenStream) -> TokenStream {
    contract::expand(Contract::RoutingByBody, arguments, item)
}

/// Makes a component that sees finished exchanges: of a function from `&[Exchange]` (and `&Settings`), or of an
/// `impl Observe`.
#[proc_macro_attribute]
pub fn observe(arguments: TokenStream, item: TokenStream) -> TokenStream {
    background::expand(background::Contract::Observe, arguments, item)
}

/// Makes a component that is called by the clock: of a function without parameters or from `&Settings`, or of an
/// `impl Tick`.
#[proc_macro_attribute]
pub fn tick(arguments: TokenStream, item: TokenStream) -> TokenStream {
    background::expand(background::Contract::Tick, arguments, item)
}
