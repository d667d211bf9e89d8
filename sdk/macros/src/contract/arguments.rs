//! The arguments of a contract attribute.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, Token, bracketed};

use super::Contract;

/// What the plugin reads, as declared by its author.
#[derive(Default)]
pub(super) struct Arguments {
    /// The span of the arguments, if there are any.
    pub(super) span: Option<Span>,
    request_headers: Vec<Expr>,
    response_headers: Vec<Expr>,
    request_body: Option<Ident>,
    response_body: Option<Ident>,
    /// The inputs on which the result of the contract's first function depends; `None`: it may depend on anything.
    pure: Option<Vec<Expr>>,
    function: Option<&'static str>,
}

impl Arguments {
    pub(super) fn parse(contract: Contract, arguments: TokenStream) -> syn::Result<Self> {
        let span = (!arguments.is_empty()).then(|| arguments.span());
        let function = match contract {
            Contract::Authentication => None,
            Contract::RateLimiting => Some("Draw"),
            Contract::Routing => Some("Route"),
            Contract::Transformation => Some("OnRequest"),
        };
        let mut parsed = Self { span, function, ..Self::default() };
        let sees_responses = contract == Contract::Transformation;
        let parser = syn::meta::parser(|meta| {
            let name = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
            match name.as_str() {
                "headers" => parsed.request_headers = expressions(&meta)?,
                "response_headers" if sees_responses => parsed.response_headers = expressions(&meta)?,
                "request_body" if sees_responses => parsed.request_body = Some(access(&meta)?),
                "response_body" if sees_responses => parsed.response_body = Some(access(&meta)?),
                "pure" if function.is_some() => parsed.pure = Some(expressions(&meta)?),
                _ if sees_responses => {
                    return Err(meta.error(
                        "expected `headers`, `pure`, `response_headers`, `request_body` or `response_body`",
                    ));
                }
                _ if function.is_some() => return Err(meta.error("expected `headers` or `pure`")),
                _ => return Err(meta.error("expected `headers = [\"name\", ...]`")),
            }
            Ok(())
        });
        parser.parse2(arguments)?;
        Ok(parsed)
    }

    /// The `interest` method: what was declared, and a body or response for each method that needs one.
    pub(super) fn interest(&self, methods: &[String]) -> TokenStream {
        let has = |method: &str| methods.iter().any(|known| known == method);
        let buffered = || Ident::new("Buffered", Span::call_site());
        let mut interest = quote!(::witgate_sdk::Interest::none());
        let (request_headers, response_headers) = (&self.request_headers, &self.response_headers);
        if !request_headers.is_empty() {
            interest.extend(quote!(.request_headers([#(#request_headers),*])));
        }
        if !response_headers.is_empty() {
            interest.extend(quote!(.response_headers([#(#response_headers),*])));
        }
        if let (Some(function), Some(inputs)) = (self.function, &self.pure) {
            let function = Ident::new(function, Span::call_site());
            interest.extend(quote!(.pure(::witgate_sdk::Function::#function, [#(#inputs),*])));
        }
        if has("on_request_body") {
            let access = self.request_body.clone().unwrap_or_else(buffered);
            interest.extend(quote!(.request_body(::witgate_sdk::BodyAccess::#access)));
        }
        if has("on_response") {
            interest.extend(quote!(.response()));
        }
        if has("on_response_body") {
            let access = self.response_body.clone().unwrap_or_else(buffered);
            interest.extend(quote!(.response_body(::witgate_sdk::BodyAccess::#access)));
        }
        quote! {
            fn interest(&self) -> ::witgate_sdk::Interest {
                #interest
            }
        }
    }
}

/// Parses `= ["a", B]`.
fn expressions(meta: &ParseNestedMeta) -> syn::Result<Vec<Expr>> {
    let list;
    meta.value()?;
    bracketed!(list in meta.input);
    Ok(Punctuated::<Expr, Token![,]>::parse_terminated(&list)?.into_iter().collect())
}

/// Parses `= buffered` or `= streamed`.
fn access(meta: &ParseNestedMeta) -> syn::Result<Ident> {
    let written: Ident = meta.value()?.parse()?;
    let case = match written.to_string().as_str() {
        "buffered" => "Buffered",
        "streamed" => "Streamed",
        _ => {
            return Err(syn::Error::new(written.span(), "expected `buffered` or `streamed`"));
        }
    };
    Ok(Ident::new(case, written.span()))
}
