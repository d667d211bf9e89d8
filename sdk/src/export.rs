//! Translates calls of the contracts into calls of a plugin's methods. Hidden from the documentation: only
//! `export!` uses it.

use std::cell::OnceCell;
use std::thread::LocalKey;

use crate::bindings::host::witgate::plugin::types;
use crate::bindings::{authentication, lifecycle, observe, rate_limiting, routing, tick, transformation};
use crate::contracts::authentication::{Authentication, Decision};
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
            response_headers: interest.response_headers.clone(),
        };
        match C::instance().with(|cell| cell.set(instance).is_ok()) {
            true => Ok(interest),
            false => Err(vec![SettingsProblem::new("", "this instance is configured already")]),
        }
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
    ($other:ident) => {
        ::std::compile_error!(
            "a component exports Authentication, RateLimiting, Routing, Transformation, Observe or Tick"
        );
    };
}
