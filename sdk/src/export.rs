//! Translates calls of the contracts into calls of a plugin's methods. Hidden from the documentation: only
//! `export!` uses it.

use std::cell::OnceCell;
use std::thread::LocalKey;

use crate::bindings::host::witgate::plugin::types;
use crate::bindings::request_body::{Content, Reading};
use crate::bindings::{
    authentication, authentication_by_body, gate, lifecycle, observe, rate_limiting, refusal_by_body,
    routing, routing_by_body, tick, transformation,
};
use crate::contracts::authentication::{Authentication, Decision};
use crate::contracts::by_body::{AuthenticationByBody, RefusalByBody, RoutingByBody};
use crate::contracts::gate::Gate;
use crate::contracts::observe::{Exchange, Observe};
use crate::contracts::rate_limiting::{Bucket, RateLimiting};
use crate::contracts::routing::{Destination, Routing};
use crate::contracts::tick::Tick;
use crate::contracts::transformation::{BodyResult, Chunk, RequestOutcome, ResponseOutcome, Transformation};
use crate::plugin::{self, Function, Interest, Plugin, SettingsProblem};
use crate::request::{Request, RequestInputs, Source};
use crate::response::{ResponseView, ViewSource};
use transformation::exports::witgate::plugin::transformation::ResponseHead;

/// A configured plugin, and the header names that it declared: the contracts refer to headers by their position.
pub struct Instance<P> {
    plugin: P,
    /// The inputs that are passed with the calls of each function.
    authenticate: RequestInputs,
    draw: RequestInputs,
    route: RequestInputs,
    on_request: RequestInputs,
    /// Set by the first call of `admit`; most plugins have no gate.
    admit: OnceCell<RequestInputs>,
    by_body: RequestInputs,
    request_headers: Vec<String>,
    response_headers: Vec<String>,
}

/// Gives access to the one instance of a component. Implemented by `export!`.
pub trait Component: 'static {
    /// The type that was exported.
    type Plugin: Plugin;

    /// The cell of the instance, filled once by `configure`.
    fn instance() -> &'static LocalKey<OnceCell<Instance<Self::Plugin>>>;

    /// The combined interest of all exported contracts.
    fn interest(plugin: &Self::Plugin) -> Interest;
}

/// Uses a plugin type where nothing is exported, so that the compiler does not report it as dead code.
pub fn in_use<C: Component>() {}

fn with_instance<C: Component, R>(call: impl FnOnce(&Instance<C::Plugin>) -> R) -> R {
    C::instance().with(|cell| call(cell.get().expect("the gateway calls `configure` before anything else")))
}

impl<C: Component> lifecycle::exports::witgate::plugin::lifecycle::Guest for C {
    fn settings_schema() -> String {
        plugin::schema::<C::Plugin>()
    }

    fn configure(settings: String) -> Result<Interest, Vec<SettingsProblem>> {
        let plugin = plugin::configure::<C::Plugin>(&settings)?;
        let interest = C::interest(&plugin);
        let declared = &interest.request_headers;
        let given = |function| RequestInputs::to(declared, interest.inputs(function));
        let instance = Instance {
            plugin,
            authenticate: RequestInputs::to(declared, interest.authenticates_by.as_deref()),
            draw: given(Function::Draw),
            route: given(Function::Route),
            on_request: given(Function::OnRequest),
            admit: OnceCell::new(),
            by_body: RequestInputs::to(declared, None),
            request_headers: declared.clone(),
            response_headers: interest.response_headers.clone(),
        };
        match C::instance().with(|cell| cell.set(instance).is_ok()) {
            true => Ok(interest),
            false => Err(vec![SettingsProblem::new("", "this instance is configured already")]),
        }
    }
}

impl<C: Component> gate::exports::witgate::plugin0_2_0::gate::Guest for C
where
    C::Plugin: Gate,
{
    fn admits_by() -> Option<Vec<types::Input>> {
        with_instance::<C, _>(|instance| instance.plugin.admits_by())
    }

    fn admit(
        head: types::RequestHead,
        request: &types::Request,
    ) -> gate::exports::witgate::plugin0_2_0::gate::Outcome {
        use gate::exports::witgate::plugin0_2_0::gate::Outcome;
        with_instance::<C, _>(|instance| {
            let passed = instance.admit.get_or_init(|| {
                RequestInputs::to(&instance.request_headers, instance.plugin.admits_by().as_deref())
            });
            let request = Request::new(head, passed, Source::Gateway(request));
            instance.plugin.admit(&request).map_or(Outcome::Proceed, Outcome::Respond)
        })
    }
}

impl<C: Component> authentication_by_body::exports::witgate::plugin0_2_0::authentication_by_body::Guest for C
where
    C::Plugin: AuthenticationByBody,
{
    fn reads() -> Reading {
        with_instance::<C, _>(|instance| instance.plugin.reads())
    }

    fn authenticate(
        content: Content,
        head: types::RequestHead,
        request: &types::Request,
    ) -> authentication_by_body::exports::witgate::plugin0_2_0::authentication_by_body::Decision {
        use authentication_by_body::exports::witgate::plugin0_2_0::authentication_by_body as contract;
        let decision = with_instance::<C, _>(|instance| {
            let request = Request::new(head, &instance.by_body, Source::Gateway(request));
            instance.plugin.authenticate_by_body(&content, &request)
        });
        match decision {
            Decision::Accepted(accepted) => contract::Decision::Accepted(contract::Acceptance {
                identity: accepted.identity,
                response_headers: accepted.response_headers,
            }),
            Decision::Refused(response) => contract::Decision::Refused(response),
            Decision::NotMine(challenges) => contract::Decision::NotMine(challenges),
        }
    }
}

impl<C: Component> refusal_by_body::exports::witgate::plugin0_2_0::refusal_by_body::Guest for C
where
    C::Plugin: RefusalByBody,
{
    fn reads() -> Reading {
        with_instance::<C, _>(|instance| instance.plugin.reads())
    }

    fn check(
        content: Content,
        head: types::RequestHead,
        request: &types::Request,
    ) -> refusal_by_body::exports::witgate::plugin0_2_0::refusal_by_body::Outcome {
        use refusal_by_body::exports::witgate::plugin0_2_0::refusal_by_body::Outcome;
        with_instance::<C, _>(|instance| {
            let request = Request::new(head, &instance.by_body, Source::Gateway(request));
            instance.plugin.refuse_by_body(&content, &request).map_or(Outcome::Proceed, Outcome::Refuse)
        })
    }
}

impl<C: Component> routing_by_body::exports::witgate::plugin0_2_0::routing_by_body::Guest for C
where
    C::Plugin: RoutingByBody,
{
    fn reads() -> Reading {
        with_instance::<C, _>(|instance| instance.plugin.reads())
    }

    fn route(
        content: Content,
        head: types::RequestHead,
        request: &types::Request,
    ) -> Option<routing_by_body::exports::witgate::plugin0_2_0::routing_by_body::Destination> {
        use routing_by_body::exports::witgate::plugin0_2_0::routing_by_body as contract;
        let chosen = with_instance::<C, _>(|instance| {
            let request = Request::new(head, &instance.by_body, Source::Gateway(request));
            instance.plugin.route_by_body(&content, &request)
        })?;
        Some(contract::Destination {
            upstream: chosen.upstream,
            path: chosen.path,
            hash_key: chosen.hash_key,
            timeout: chosen.timeout,
            response_headers: chosen.response_headers,
        })
    }
}

impl<C: Component> authentication::exports::witgate::plugin::authentication::Guest for C
where
    C::Plugin: Authentication,
{
    fn authenticate(head: types::RequestHead, request: &types::Request) -> Decision {
        with_instance::<C, _>(|instance| {
            let request = Request::new(head, &instance.authenticate, Source::Gateway(request));
            instance.plugin.authenticate(&request)
        })
    }
}

impl<C: Component> observe::exports::witgate::plugin0_2_0::observe::Guest for C
where
    C::Plugin: Observe,
{
    fn observe(batch: Vec<Exchange>) {
        with_instance::<C, _>(|instance| instance.plugin.observe(&batch));
    }
}

impl<C: Component> tick::exports::witgate::plugin0_2_0::tick::Guest for C
where
    C::Plugin: Tick,
{
    fn tick() {
        with_instance::<C, _>(|instance| instance.plugin.tick());
    }
}

impl<C: Component> rate_limiting::exports::witgate::plugin::rate_limiting::Guest for C
where
    C::Plugin: RateLimiting,
{
    fn draw(head: types::RequestHead, request: &types::Request) -> Vec<Bucket> {
        with_instance::<C, _>(|instance| {
            let request = Request::new(head, &instance.draw, Source::Gateway(request));
            instance.plugin.draw(&request).0
        })
    }
}

impl<C: Component> routing::exports::witgate::plugin::routing::Guest for C
where
    C::Plugin: Routing,
{
    fn route(head: types::RequestHead, request: &types::Request) -> Option<Destination> {
        with_instance::<C, _>(|instance| {
            let request = Request::new(head, &instance.route, Source::Gateway(request));
            instance.plugin.route(&request)
        })
    }
}

impl<C: Component> transformation::exports::witgate::plugin::transformation::Guest for C
where
    C::Plugin: Transformation,
{
    fn on_request(head: types::RequestHead, request: &types::Request) -> RequestOutcome {
        with_instance::<C, _>(|instance| {
            let request = Request::new(head, &instance.on_request, Source::Gateway(request));
            instance.plugin.on_request(&request)
        })
    }

    fn on_request_body(
        content: Vec<u8>,
        end: bool,
        context: Vec<u8>,
        request: &types::Request,
    ) -> BodyResult {
        with_instance::<C, _>(|instance| {
            let request = Request::without_head(Source::Gateway(request));
            instance.plugin.on_request_body(Chunk { content, end, context }, &request)
        })
    }

    fn on_response(
        head: ResponseHead,
        context: Vec<u8>,
        request: &types::Request,
        response: &types::ResponseView,
    ) -> ResponseOutcome {
        with_instance::<C, _>(|instance| {
            let request = Request::without_head(Source::Gateway(request));
            let source = ViewSource::Gateway(response);
            let response = ResponseView::new(head.status, head.headers, &instance.response_headers, source);
            instance.plugin.on_response(&response, &request, &context)
        })
    }

    fn on_response_body(
        content: Vec<u8>,
        end: bool,
        context: Vec<u8>,
        request: &types::Request,
        response: &types::ResponseView,
    ) -> BodyResult {
        with_instance::<C, _>(|instance| {
            let request = Request::without_head(Source::Gateway(request));
            let response = ResponseView::without_head(ViewSource::Gateway(response));
            instance.plugin.on_response_body(Chunk { content, end, context }, &response, &request)
        })
    }
}

/// Makes a component of a type: the component exports `lifecycle` and the named contracts, whose traits the type
/// implements.
///
/// The attribute macros do this for a plugin with one contract. For several contracts, implement the traits
/// without attributes and call this macro once:
///
/// ```
/// use witgate_sdk::{Authentication, Bucket, Buckets, Decision, RateLimiting, Request};
///
/// #[witgate_sdk::settings]
/// struct Partners {
///     per_minute: u32,
/// }
///
/// impl Authentication for Partners {
///     fn authenticate(&self, request: &Request) -> Decision {
///         match request.header("x-partner") {
///             Some(name) => Decision::accept(name),
///             None => Decision::not_mine("Partner"),
///         }
///     }
/// }
///
/// impl RateLimiting for Partners {
///     fn draw(&self, request: &Request) -> Buckets {
///         request.identity().map(|caller| Bucket::per_minute(self.per_minute, caller.subject)).into()
///     }
/// }
///
/// witgate_sdk::export!(Partners: Authentication, RateLimiting);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($contract:ident),+ $(,)?) => {
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static INSTANCE: ::std::cell::OnceCell<$crate::__private::Instance<$plugin>> =
                    const { ::std::cell::OnceCell::new() };
            }

            impl $crate::__private::Component for Component {
                type Plugin = $plugin;

                fn instance() -> &'static ::std::thread::LocalKey<
                    ::std::cell::OnceCell<$crate::__private::Instance<$plugin>>,
                > {
                    &INSTANCE
                }

                fn interest(plugin: &$plugin) -> $crate::Interest {
                    $crate::Interest::none()$(.and(<$plugin as $crate::$contract>::interest(plugin)))+
                }
            }

            // A native build and a test binary export nothing, so the plugin type is marked as used here.
            const _: fn() = $crate::__private::in_use::<Component>;

            #[cfg(all(target_family = "wasm", not(test)))]
            const _: () = {
                $crate::bindings::lifecycle::export_lifecycle!(
                    Component with_types_in $crate::bindings::lifecycle
                );
                $($crate::__export_contract!($contract);)+
            };
        };
    };
}

/// Exports one contract, given the name of its trait.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_contract {
    (Authentication) => {
        $crate::bindings::authentication::export_authentication!(
            Component with_types_in $crate::bindings::authentication
        );
    };
    (RateLimiting) => {
        $crate::bindings::rate_limiting::export_rate_limiting!(
            Component with_types_in $crate::bindings::rate_limiting
        );
    };
    (Routing) => {
        $crate::bindings::routing::export_routing!(
            Component with_types_in $crate::bindings::routing
        );
    };
    (Observe) => {
        $crate::bindings::observe::export_observe!(
            Component with_types_in $crate::bindings::observe
        );
    };
    (Tick) => {
        $crate::bindings::tick::export_tick!(
            Component with_types_in $crate::bindings::tick
        );
    };
    (Transformation) => {
        $crate::bindings::transformation::export_transformation!(
            Component with_types_in $crate::bindings::transformation
        );
    };
    (Gate) => {
        $crate::bindings::gate::export_gate!(Component with_types_in $crate::bindings::gate);
    };
    (AuthenticationByBody) => {
        $crate::bindings::authentication_by_body::export_authentication_by_body!(
            Component with_types_in $crate::bindings::authentication_by_body
        );
    };
    (RefusalByBody) => {
        $crate::bindings::refusal_by_body::export_refusal_by_body!(
            Component with_types_in $crate::bindings::refusal_by_body
        );
    };
    (RoutingByBody) => {
        $crate::bindings::routing_by_body::export_routing_by_body!(
            Component with_types_in $crate::bindings::routing_by_body
        );
    };
    ($other:ident) => {
        ::std::compile_error!(
            "a component exports Gate, Authentication, AuthenticationByBody, RateLimiting, RefusalByBody, Routing, RoutingByBody, Transformation, Observe or Tick"
        );
    };
}
