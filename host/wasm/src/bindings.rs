//! The contracts as Rust types, generated from the WIT packages: version 0.1.0, and in
//! [`draft`] what version 0.2.0 adds to it. No other file names a version of the package.

#![allow(missing_docs, reason = "generated from the WIT, where every item is documented")]
#![allow(unreachable_pub, reason = "the generator makes everything public; this module is private")]

/// Stands for the borrowed `request` of a call. The data is in the store, so the handle carries no data.
pub enum RequestView {}

/// Stands for the borrowed `response-view` of a call, as [`RequestView`] does for the request.
pub enum ResponseView {}

wasmtime::component::bindgen!({
    path: "../../wit/0.1.0",
    world: "plugin",
    // Parameters are borrowed from the request instead of being copied into values that the bindings own.
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: {
        "witgate:plugin/fetch.send": async | trappable,
        default: trappable,
    },
    with: {
        "witgate:plugin/types.request": RequestView,
        "witgate:plugin/types.response-view": ResponseView,
    },
});

/// What version 0.2.0 adds. Its interfaces use the types of version 0.1.0.
pub(crate) mod draft {
    wasmtime::component::bindgen!({
        path: ["../../wit/0.1.0", "../../wit/0.2.0"],
        world: "witgate:plugin/additions@0.2.0",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        with: {
            "witgate:plugin/types@0.1.0": crate::bindings::witgate::plugin::types,
            "witgate:plugin/crypto@0.1.0": crate::bindings::witgate::plugin::crypto,
            "witgate:plugin/store@0.1.0": crate::bindings::witgate::plugin::store,
        },
    });
}

/// Names of the interfaces of both versions, as components write them.
pub(crate) mod name {
    pub(crate) const LIFECYCLE: &str = "witgate:plugin/lifecycle@0.1.0";
    pub(crate) const AUTHENTICATION: &str = "witgate:plugin/authentication@0.1.0";
    pub(crate) const RATE_LIMITING: &str = "witgate:plugin/rate-limiting@0.1.0";
    pub(crate) const ROUTING: &str = "witgate:plugin/routing@0.1.0";
    pub(crate) const TRANSFORMATION: &str = "witgate:plugin/transformation@0.1.0";
    pub(crate) const STORE: &str = "witgate:plugin/store@0.1.0";
    pub(crate) const FETCH: &str = "witgate:plugin/fetch@0.1.0";
    pub(crate) const TYPES: &str = "witgate:plugin/types@0.1.0";
    pub(crate) const LOG: &str = "witgate:plugin/log@0.1.0";
    pub(crate) const METRICS: &str = "witgate:plugin/metrics@0.1.0";
    pub(crate) const CRYPTO: &str = "witgate:plugin/crypto@0.1.0";
    pub(crate) const GATE: &str = "witgate:plugin/gate@0.2.0";
    pub(crate) const AUTHENTICATION_BY_BODY: &str = "witgate:plugin/authentication-by-body@0.2.0";
    pub(crate) const REFUSAL_BY_BODY: &str = "witgate:plugin/refusal-by-body@0.2.0";
    pub(crate) const ROUTING_BY_BODY: &str = "witgate:plugin/routing-by-body@0.2.0";
    pub(crate) const REQUEST_BODY: &str = "witgate:plugin/request-body@0.2.0";
    pub(crate) const OBSERVE: &str = "witgate:plugin/observe@0.2.0";
    pub(crate) const TICK: &str = "witgate:plugin/tick@0.2.0";
    pub(crate) const DATA: &str = "witgate:plugin/data@0.2.0";
    pub(crate) const PASSWORD: &str = "witgate:plugin/password@0.2.0";
    pub(crate) const STORE_ADDITIONS: &str = "witgate:plugin/store@0.2.0";
    pub(crate) const CALENDAR: &str = "witgate:plugin/calendar@0.2.0";
    pub(crate) const NOTES: &str = "witgate:plugin/notes@0.2.0";
    pub(crate) const SPAN: &str = "witgate:plugin/span@0.2.0";
    pub(crate) const FACTS: &str = "witgate:plugin/facts@0.2.0";
    pub(crate) const RESPONSE_BODY: &str = "witgate:plugin/response-body@0.2.0";
    pub(crate) const ENDING: &str = "witgate:plugin/ending@0.2.0";
    pub(crate) const OBSERVED: &str = "witgate:plugin/observed@0.2.0";
    pub(crate) const UPSTREAM_HOST: &str = "witgate:plugin/upstream-host@0.2.0";
    pub(crate) const SETTLEMENT: &str = "witgate:plugin/settlement@0.2.0";
    pub(crate) const CRYPTO_ADDITIONS: &str = "witgate:plugin/crypto@0.2.0";
    /// What the name of every interface of the version ends with that is a draft.
    pub(crate) const DRAFT: &str = "@0.2.0";
}
