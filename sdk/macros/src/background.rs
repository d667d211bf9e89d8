//! The attributes of the contracts that no request waits for: `observe` and `tick`. They declare nothing, so they take
//! no arguments.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, FnArg, Item, ItemFn, ItemImpl, Type, parse_quote};

use crate::contract::without_settings;

/// The contract an attribute is for.
#[derive(Clone, Copy)]
pub(crate) enum Contract {
    Observe,
    Tick,
}

impl Contract {
    /// The trait, which is also the name in `export!`.
    fn name(self) -> &'static str {
        match self {
            Self::Observe => "Observe",
            Self::Tick => "Tick",
        }
    }

    /// What a function looks like.
    fn shape(self) -> &'static str {
        match self {
            Self::Observe => "`fn(batch: &[Exchange])` or `fn(batch: &[Exchange], settings: &Settings)`",
            Self::Tick => "`fn()` or `fn(settings: &Settings)`",
        }
    }
}

pub(crate) fn expand(
    contract: Contract,
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let arguments = TokenStream::from(arguments);
    let expanded = if arguments.is_empty() {
        syn::parse(item).and_then(|item| match item {
            Item::Fn(function) => of_function(contract, &function),
            Item::Impl(implementation) => of_impl(contract, &implementation),
            other => {
                let message = format!("expected a function or an `impl {}`", contract.name());
                Err(Error::new_spanned(other, message))
            }
        })
    } else {
        Err(Error::new_spanned(arguments, "this attribute takes no arguments"))
    };
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

fn of_function(contract: Contract, function: &ItemFn) -> syn::Result<TokenStream> {
    let name = format_ident!("{}", contract.name());
    let call = &function.sig.ident;
    let settings = settings_type(contract, function)?;
    let (plugin, made) = match settings {
        Some(settings) => (settings.clone(), None),
        None => (parse_quote!(WithoutSettings), Some(without_settings())),
    };
    let method = match (contract, settings.is_some()) {
        (Contract::Observe, true) => {
            quote!(fn observe(&self, batch: &[::witgate_sdk::Exchange]) { #call(batch, self); })
        }
        (Contract::Observe, false) => {
            quote!(fn observe(&self, batch: &[::witgate_sdk::Exchange]) { #call(batch); })
        }
        (Contract::Tick, true) => quote!(fn tick(&self) { #call(self); }),
        (Contract::Tick, false) => quote!(fn tick(&self) { #call(); }),
    };
    Ok(quote! {
        #function

        const _: () = {
            #made

            impl ::witgate_sdk::#name for #plugin {
                #method
            }

            ::witgate_sdk::export!(#plugin: #name);
        };
    })
}

/// The type of the settings, if the function takes any.
fn settings_type(contract: Contract, function: &ItemFn) -> syn::Result<Option<&Type>> {
    let referred: Option<Vec<&Type>> = function
        .sig
        .inputs
        .iter()
        .map(|parameter| match parameter {
            FnArg::Typed(typed) => match &*typed.ty {
                Type::Reference(reference) => Some(&*reference.elem),
                _ => None,
            },
            FnArg::Receiver(_) => None,
        })
        .collect();
    let referred = referred.filter(|_| function.sig.asyncness.is_none());
    match (contract, referred.as_deref()) {
        (Contract::Observe, Some([_])) | (Contract::Tick, Some([])) => Ok(None),
        (Contract::Observe, Some([_, settings])) | (Contract::Tick, Some([settings])) => Ok(Some(*settings)),
        _ => Err(Error::new_spanned(&function.sig, format!("expected {}", contract.shape()))),
    }
}

fn of_impl(contract: Contract, implementation: &ItemImpl) -> syn::Result<TokenStream> {
    let name = contract.name();
    let is_contract = implementation
        .trait_
        .as_ref()
        .is_some_and(|(_, path, _)| path.segments.last().is_some_and(|segment| segment.ident == name));
    if !is_contract {
        return Err(Error::new_spanned(implementation, format!("expected `impl {name} for ...`")));
    }
    let (contract, plugin) = (format_ident!("{name}"), &implementation.self_ty);
    Ok(quote! {
        #implementation

        ::witgate_sdk::export!(#plugin: #contract);
    })
}
