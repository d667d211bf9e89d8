//! The contract attributes. They expand in the same way; a table holds what differs.

mod arguments;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, FnArg, ImplItem, Item, ItemFn, ItemImpl, Type, parse_quote};

use arguments::Arguments;

/// The contract an attribute is for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Contract {
    Gate,
    Authentication,
    AuthenticationByBody,
    RefusalByBody,
    RoutingByBody,
    RateLimiting,
    Routing,
    Transformation,
}

/// The names of a contract in the SDK.
struct Names {
    /// The trait, which is also the name in `export!`.
    contract: &'static str,
    /// The method that a plain function implements.
    method: &'static str,
    /// The return type of that method.
    outcome: TokenStream,
}

impl Contract {
    /// Whether it decides by the body of the request, so that its function takes the body first.
    pub(crate) fn is_by_body(self) -> bool {
        matches!(self, Self::AuthenticationByBody | Self::RefusalByBody | Self::RoutingByBody)
    }

    fn names(self) -> Names {
        let names = |contract, method, outcome| Names { contract, method, outcome };
        let response = || quote!(::core::option::Option<::witgate_sdk::Response>);
        match self {
            Self::Gate => names("Gate", "admit", response()),
            Self::AuthenticationByBody => {
                names("AuthenticationByBody", "authenticate_by_body", quote!(::witgate_sdk::Decision))
            }
            Self::RefusalByBody => names("RefusalByBody", "refuse_by_body", response()),
            Self::RoutingByBody => names(
                "RoutingByBody",
                "route_by_body",
                quote!(::core::option::Option<::witgate_sdk::Destination>),
            ),
            Self::Authentication => names("Authentication", "authenticate", quote!(::witgate_sdk::Decision)),
            Self::RateLimiting => names("RateLimiting", "draw", quote!(::witgate_sdk::Buckets)),
            Self::Routing => {
                names("Routing", "route", quote!(::core::option::Option<::witgate_sdk::Destination>))
            }
            Self::Transformation => {
                names("Transformation", "on_request", quote!(::witgate_sdk::RequestOutcome))
            }
        }
    }
}

pub(crate) fn expand(
    contract: Contract,
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let expanded =
        Arguments::parse(contract, arguments.into()).and_then(|arguments| match syn::parse(item)? {
            Item::Fn(function) => of_function(contract, &arguments, &function),
            Item::Impl(implementation) => of_impl(contract, &arguments, implementation),
            other => Err(Error::new_spanned(
                other,
                format!("expected a function or an `impl {}`", contract.names().contract),
            )),
        });
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

fn of_function(contract: Contract, arguments: &Arguments, function: &ItemFn) -> syn::Result<TokenStream> {
    let Names { contract: name, method, outcome } = contract.names();
    let by_body = contract.is_by_body();
    let (contract, method) = (Ident::new(name, Span::call_site()), Ident::new(method, Span::call_site()));
    let declarations = arguments.declarations(&[])?;
    let call = &function.sig.ident;
    let body = by_body.then(|| quote!(body,));
    let (plugin, made, call) = match settings_type(function, by_body)? {
        Some(settings) => (settings.clone(), None, quote!(#call(#body request, self))),
        None => (parse_quote!(WithoutSettings), Some(without_settings()), quote!(#call(#body request))),
    };
    let body = by_body.then(|| quote!(body: &::witgate_sdk::Body,));
    Ok(quote! {
        #function

        const _: () = {
            #made

            impl ::witgate_sdk::#contract for #plugin {
                #declarations

                fn #method(&self, #body request: &::witgate_sdk::Request) -> #outcome {
                    ::core::convert::Into::into(#call)
                }
            }

            ::witgate_sdk::export!(#plugin: #contract);
        };
    })
}

/// The type behind the last parameter, if there is one after those of the contract.
fn settings_type(function: &ItemFn, by_body: bool) -> syn::Result<Option<&Type>> {
    let shape = || {
        let expected = if by_body {
            "expected `fn(body: &Body, request: &Request)` or `fn(body: &Body, request: &Request, settings: &Settings)`"
        } else {
            "expected `fn(request: &Request)` or `fn(request: &Request, settings: &Settings)`"
        };
        Error::new_spanned(&function.sig, expected)
    };
    let parameters: Vec<&FnArg> = function.sig.inputs.iter().collect();
    let referred = |parameter: &'_ FnArg| matches!(parameter, FnArg::Typed(typed) if matches!(*typed.ty, Type::Reference(_)));
    if function.sig.asyncness.is_some() || !parameters.iter().all(|parameter| referred(parameter)) {
        return Err(shape());
    }
    let own = parameters.get(usize::from(by_body)..).unwrap_or_default();
    match own[..] {
        [_] => Ok(None),
        [_, FnArg::Typed(settings)] => match &*settings.ty {
            Type::Reference(reference) => Ok(Some(&*reference.elem)),
            _ => Err(shape()),
        },
        _ => Err(shape()),
    }
}

/// The plugin type of a function without settings.
pub(crate) fn without_settings() -> TokenStream {
    quote! {
        struct WithoutSettings;

        impl ::witgate_sdk::Plugin for WithoutSettings {
            type Settings = ::witgate_sdk::NoSettings;

            fn configure(
                _: ::witgate_sdk::NoSettings,
            ) -> ::core::result::Result<Self, ::std::vec::Vec<::witgate_sdk::SettingsProblem>> {
                ::core::result::Result::Ok(Self)
            }
        }
    }
}

fn of_impl(
    contract: Contract,
    arguments: &Arguments,
    mut implementation: ItemImpl,
) -> syn::Result<TokenStream> {
    let name = contract.names().contract;
    let is_contract = implementation
        .trait_
        .as_ref()
        .is_some_and(|(_, path, _)| path.segments.last().is_some_and(|segment| segment.ident == name));
    if !is_contract {
        return Err(Error::new_spanned(&implementation, format!("expected `impl {name} for ...`")));
    }
    let methods: Vec<String> = implementation
        .items
        .iter()
        .filter_map(|item| match item {
            ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
            _ => None,
        })
        .collect();
    if let Some(span) = arguments.span.filter(|_| methods.iter().any(|method| method == "interest")) {
        return Err(Error::new(span, "the `interest` method already declares what this plugin reads"));
    }
    implementation.items.push(ImplItem::Verbatim(arguments.declarations(&methods)?));
    let (contract, plugin) = (format_ident!("{name}"), &implementation.self_ty);
    Ok(quote! {
        #implementation

        ::witgate_sdk::export!(#plugin: #contract);
    })
}
