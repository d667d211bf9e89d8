//! The contracts between the data path and what it calls: plugins, native stages, counters, stores.
//!
//! | file | what it is |
//! |---|---|
//! | `binding` | [`Binding`]: a binding in service, with its name, version, limits and the contracts that it serves |
//! | `gate` | [`Gate`]: whether a request is let in at all |
//! | `authentication` | [`Authentication`]: who the caller is |
//! | `rate_limiting` | [`RateLimiting`]: which buckets a request draws on |
//! | `routing` | [`Routing`]: where a request goes |
//! | `transformation` | [`Transformation`]: changes to heads and bodies of requests and responses |
//! | `observe` | [`Observer`]: what became of finished requests |
//! | `by_body` | [`AuthenticationByBody`], [`RefusalByBody`], [`RoutingByBody`]: decisions on the body of a request |
//! | `call` | [`Call`], [`CallFailure`], [`Phase`]: the inputs of every call, and how it may fail |
//! | `interest` | [`Interest`]: what a binding declares to look at |
//! | `message` | headers and responses as plugins write them |
//! | `value_part` | [`ValuePart`]: values that are composed for each request |
//! | `fetch` | [`Fetch`]: outbound requests on behalf of a call |
//! | [`counter`] | [`Counter`](counter::Counter): where draws are counted |
//! | [`store`] | [`KeyStore`](store::KeyStore): keys that plugins store |
//! | [`broker`] | [`Broker`](broker::Broker): publishes messages and delivers them to consumers |
//! | [`discovery`] | [`Source`](discovery::Source): supplies the endpoints of an upstream |
//! | [`state`] | [`State`](state::State): one place that keeps counters and stores, as the configuration names it |
//! | `maybe_ready` | [`MaybeReady`]: a result that is ready, or that is waited for |
//!
//! The types of the contracts mirror the WIT package `witgate:plugin`. Results of bindings are untrusted
//! until the pipeline has validated them, even if the binding is native.
//!
//! This module knows the vocabulary of one exchange (head, body, fault, identity, trace) and the configuration,
//! but nothing of snapshots, upstreams and connections, so that code which implements a contract depends on
//! nothing else.

mod authentication;
mod binding;
pub mod broker;
mod by_body;
mod call;
pub mod counter;
pub mod discovery;
mod fetch;
mod gate;
mod interest;
mod maybe_ready;
mod message;
mod observe;
mod rate;
mod rate_limiting;
mod routing;
pub mod state;
pub mod store;
mod transformation;
mod value_part;

pub use authentication::{Acceptance, Authentication, Decision};
pub use binding::{Binding, Contracts, Measured, PluginLimits, Quarantined};
pub use by_body::{
    AuthenticationByBody, BodyContent, BodyForm, Extent, Reading, RefusalByBody, RoutingByBody,
};
pub use call::{Answer, Call, CallFailure, CallResult, Phase};
pub use fetch::Fetch;
pub use gate::Gate;
pub use interest::{BodyAccess, Function, INPUTS, Input, Interest};
pub use maybe_ready::MaybeReady;
pub use message::{ComposedHeader, Header, HeaderChange, LocalResponse, ResponseHead, ResponseOrigin};
pub use observe::{Observer, Observers};
pub use rate_limiting::{Bucket, RateLimiting};
pub use routing::{Destination, Routing};
pub use transformation::{
    BodyResult, Piece, RequestChanges, RequestOutcome, ResponseChanges, ResponseOutcome, Transformation,
};
pub use value_part::ValuePart;
