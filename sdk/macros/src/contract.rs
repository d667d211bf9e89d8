//! The four contract attributes. They expand in the same way; a table holds what differs.

mod arguments;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, FnArg, ImplItem, Item, ItemFn, ItemImpl, Type, parse_quote};

use arguments::Arguments;

/// The contract an attribute is for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Contract {
    Authentication,
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
    fn names(self) -> Names {
        let names = |contract, method, outcome| Names { contract, method, outcome };
        match self {
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
    let (contract, method) = (Ident::new(name, Span::call_site()), Ident::new(method, Span::call_site()));
    let interest = arguments.interest(&[]);
    let call = &function.sig.ident;
    let (plugin, made, call) = match settings_type(function)? {
        Some(settings) => (settings.clone(), None, quote!(#call(request, self))),
        None => (parse_quote!(WithoutSettings), Some(without_settings()), quote!(#call(request))),
    };
    Ok(quote! {
        #function

        const _: () = {
            #made

            impl ::witgate_sdk::#contract for #plugin {
                #interest

                fn #method(&self, request: &::witgate_sdk::Request) -> #outcome {
                    ::core::convert::Into::into(#call)
                }
            }

            ::witgate_sdk::export!(#plugin: #contract);
        };
    })
}

/// The type behind the second parameter, if there is one.
fn settings_type(function: &ItemFn) -> syn::Result<Option<&Type>> {
    let shape = || {
        Error::new_spanned(
            &function.sig,
            "expected `fn(request: &Request)` or `fn(request: &Request, settings: &Settings)`",
        )
    };
    let parameters: Vec<&FnArg> = function.sig.inputs.iter().collect();
    let referred = |parameter: &'_ FnArg| matches!(parameter, FnArg::Typed(typed) if matches!(*typed.ty, Type::Reference(_)));
    if function.sig.asyncness.is_some() || !parameters.iter().all(|parameter| referred(parameter)) {
        return Err(shape());
    }
    match parameters[..] {
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
    if !methods.iter().any(|method| method == "interest") {
        let interest = arguments.interest(&methods);
        implementation.items.push(ImplItem::Verbatim(interest));
    } else if let Some(span) = arguments.span {
        return Err(Error::new(span, "the `interest` method already declares what this plugin reads"));
    }
    let (contract, plugin) = (format_ident!("{name}"), &implementation.self_ty);
    Ok(quote! {
        #implementation

        ::witgate_sdk::export!(#plugin: #contract);
    })
}
