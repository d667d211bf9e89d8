//! The attribute `#[settings]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::{Attribute, Data, DeriveInput, Error, Path};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let mut check: Option<Path> = None;
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("check") {
            check = Some(meta.value()?.parse()?);
            Ok(())
        } else {
            Err(meta.error("expected `check = path::of::a::function`"))
        }
    });
    parser.parse2(arguments)?;

    let item: DeriveInput = syn::parse2(item)?;
    let naming = match &item.data {
        Data::Struct(_) => None,
        Data::Enum(_) if says_rename_all(&item.attrs) => None,
        Data::Enum(_) => Some(quote!(, rename_all = "snake_case")),
        Data::Union(_) => {
            return Err(Error::new_spanned(&item, "settings are a struct or an enum"));
        }
    };
    let problems = check.map(|check| {
        quote! {
            fn problems(&self) -> ::std::vec::Vec<::witgate_sdk::SettingsProblem> {
                #check(self)
            }
        }
    });
    let name = &item.ident;
    let (generics, arguments, bounds) = item.generics.split_for_impl();
    Ok(quote! {
        #[derive(::witgate_sdk::serde::Deserialize, ::witgate_sdk::schemars::JsonSchema)]
        #[serde(crate = "::witgate_sdk::serde", deny_unknown_fields #naming)]
        #[schemars(crate = "::witgate_sdk::schemars")]
        #item

        impl #generics ::witgate_sdk::Settings for #name #arguments #bounds {
            #problems
        }
    })
}

/// Whether the author chose how the variants are written.
fn says_rename_all(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("serde")).any(|attribute| {
        let mut found = false;
        // Errors in the rest of the attribute are reported by serde.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("rename_all");
            if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<syn::Lit>()?;
            }
            Ok(())
        });
        found
    })
}
