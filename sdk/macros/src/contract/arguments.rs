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
    contract: Option<Contract>,
    /// What a decision on a body reads: `whole` or `peek`, and how many bytes.
    extent: Option<(Ident, Expr)>,
    decoded: bool,
}

impl Arguments {
    pub(super) fn parse(contract: Contract, arguments: TokenStream) -> syn::Result<Self> {
        let span = (!arguments.is_empty()).then(|| arguments.span());
        let function = match contract {
            Contract::Gate
            | Contract::Authentication
            | Contract::AuthenticationByBody
            | Contract::RefusalByBody
            | Contract::RoutingByBody => None,
            Contract::RateLimiting => Some("Draw"),
            Contract::Routing => Some("Route"),
            Contract::Transformation => Some("OnRequest"),
        };
        let mut parsed = Self { span, function, contract: Some(contract), ..Self::default() };
        let may_be_pure = function.is_some() || contract == Contract::Gate;
        let sees_responses = contract == Contract::Transformation;
        let parser = syn::meta::parser(|meta| {
            let name = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
            match name.as_str() {
                "headers" => parsed.request_headers = expressions(&meta)?,
                "response_headers" if sees_responses => parsed.response_headers = expressions(&meta)?,
                "request_body" if sees_responses => parsed.request_body = Some(access(&meta)?),
                "response_body" if sees_responses => parsed.response_body = Some(access(&meta)?),
                "pure" if may_be_pure => parsed.pure = Some(expressions(&meta)?),
                "whole" | "peek" if contract.is_by_body() => {
                    let extent = Ident::new(&name, Span::call_site());
                    parsed.extent = Some((extent, meta.value()?.parse()?));
                }
                "decoded" if contract.is_by_body() => parsed.decoded = true,
                _ if contract.is_by_body() => {
                    return Err(meta.error("expected `headers`, `whole`, `peek` or `decoded`"));
                }
                _ if sees_responses => {
                    return Err(meta.error(
                        "expected `headers`, `pure`, `response_headers`, `request_body` or `response_body`",
                    ));
                }
                _ if may_be_pure => return Err(meta.error("expected `headers` or `pure`")),
                _ => return Err(meta.error("expected `headers = [\"name\", ...]`")),
            }
            Ok(())
        });
        parser.parse2(arguments)?;
        Ok(parsed)
    }

    /// The methods that declare what the plugin reads, as far as it does not have them itself.
    ///
    /// # Errors
    /// A decision on a body says neither `whole` nor `peek`, or something is declared twice.
    pub(super) fn declarations(&self, methods: &[String]) -> syn::Result<TokenStream> {
        let has = |method: &str| methods.iter().any(|known| known == method);
        let twice = [("admits_by", self.pure.is_some()), ("reads", self.extent.is_some() || self.decoded)];
        if let Some((method, _)) = twice.into_iter().find(|(method, declared)| *declared && has(method)) {
            let span = self.span.unwrap_or_else(Span::call_site);
            return Err(syn::Error::new(span, format!("the `{method}` method already declares this")));
        }
        let mut declarations = TokenStream::new();
        if !has("interest") {
            declarations.extend(self.interest(methods));
        }
        if let (Some(Contract::Gate), Some(inputs)) = (self.contract, &self.pure) {
            declarations.extend(quote! {
                fn admits_by(&self) -> ::core::option::Option<::std::vec::Vec<::witgate_sdk::Input>> {
                    ::core::option::Option::Some(::std::vec![#(#inputs),*])
                }
            });
        }
        if self.contract.is_some_and(Contract::is_by_body) && !has("reads") {
            let Some((extent, bytes)) = &self.extent else {
                let span = self.span.unwrap_or_else(Span::call_site);
                let message = "say how much of the body is read: `whole = BYTES` or `peek = BYTES`";
                return Err(syn::Error::new(span, message));
            };
            let decoded = self.decoded.then(|| quote!(.decoded()));
            declarations.extend(quote! {
                fn reads(&self) -> ::witgate_sdk::Reading {
                    ::witgate_sdk::Reading::#extent(#bytes) #decoded
                }
            });
        }
        Ok(declarations)
    }

    /// The `interest` method: what was declared, and a body or response for each method that needs one.
    fn interest(&self, methods: &[String]) -> TokenStream {
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
