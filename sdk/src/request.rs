//! The request that a plugin reads.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::bindings::host::witgate::plugin::types;
use crate::headers::{DeclaredHeaders, ReadHeaders, Values};

pub use types::{Header, Identity, Input};

/// The request of the current call.
///
/// Method, path, query, authority and the declared headers were passed with the call: reading them costs nothing.
/// Everything else is requested from the gateway when it is read.
pub struct Request<'a> {
    source: Source<'a>,
    headers: DeclaredHeaders<'a>,
    read: ReadHeaders,
    method: OnceCell<String>,
    path: OnceCell<String>,
    query: OnceCell<Option<String>>,
    authority: OnceCell<String>,
}

/// The inputs that are passed with the calls of a function: all of them, or those it declared. All others are
/// requested from the gateway.
pub(crate) struct RequestInputs {
    /// The names of the declared headers, by position; the name of a header that is not passed is empty.
    headers: Vec<String>,
    /// Whether the query is passed; if it is not, its absence in the call does not mean that the request has none.
    query: bool,
}

/// Inputs of a request that was built natively.
#[cfg(any(not(target_family = "wasm"), feature = "test"))]
pub(crate) static ALL_BUT_HEADERS: RequestInputs = RequestInputs { headers: Vec::new(), query: true };

impl RequestInputs {
    /// The inputs for a function that may depend on anything (`None`), or on these inputs only.
    pub(crate) fn to(declared: &[String], inputs: Option<&[Input]>) -> Self {
        let header = |name: &String| {
            let is_it =
                |input: &Input| matches!(input, Input::Header(known) if known.eq_ignore_ascii_case(name));
            inputs.is_none_or(|inputs| inputs.iter().any(is_it))
        };
        let headers = declared.iter().map(|name| if header(name) { name.clone() } else { String::new() });
        Self { headers: headers.collect(), query: inputs.is_none_or(|inputs| inputs.contains(&Input::Query)) }
    }
}

/// A part that may have been passed with the call.
fn known<T>(part: Option<T>) -> OnceCell<T> {
    part.map_or_else(OnceCell::new, OnceCell::from)
}

/// Implements the reading of parts that were not passed with the call.
pub(crate) enum Source<'a> {
    Gateway(&'a types::Request),
    #[cfg(any(not(target_family = "wasm"), feature = "test"))]
    Test(Box<crate::test::RequestParts>),
}

/// A match instead of a vtable, so that a component imports only the functions that it uses.
macro_rules! ask {
    ($request:expr, $method:ident($($argument:expr),*)) => {
        match &$request.source {
            Source::Gateway(gateway) => gateway.$method($($argument),*),
            #[cfg(any(not(target_family = "wasm"), feature = "test"))]
            Source::Test(parts) => parts.$method($($argument),*),
        }
    };
}

impl<'a> Request<'a> {
    pub(crate) fn new(head: types::RequestHead, given: &'a RequestInputs, source: Source<'a>) -> Self {
        Self {
            source,
            headers: DeclaredHeaders { names: &given.headers, values: head.headers },
            read: ReadHeaders::default(),
            method: known(head.method),
            path: known(head.path),
            query: known(given.query.then_some(head.query)),
            authority: known(head.authority),
        }
    }

    /// A request for calls that pass no head: every part is requested from the gateway when it is read.
    pub(crate) fn without_head(source: Source<'a>) -> Self {
        Self {
            source,
            headers: DeclaredHeaders::default(),
            read: ReadHeaders::default(),
            method: OnceCell::new(),
            path: OnceCell::new(),
            query: OnceCell::new(),
            authority: OnceCell::new(),
        }
    }

    /// The method, case-sensitive.
    pub fn method(&self) -> &str {
        self.method.get_or_init(|| ask!(self, method()))
    }

    /// The path that the router matched: normalized, percent-encoded, without query.
    pub fn path(&self) -> &str {
        self.path.get_or_init(|| ask!(self, path()))
    }

    /// The query without its `?`; `None` if the target has no `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.get_or_init(|| ask!(self, query())).as_deref()
    }

    /// The first value of a query parameter, percent-decoded (`+` is a space). `None` if it is absent or not
    /// UTF-8. Where a second value would be an attack (for example with credentials), check
    /// [`query_values`](Self::query_values).
    pub fn query_parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_values(name).next().flatten()
    }

    /// All values of a query parameter in their order, percent-decoded (`+` is a space). A value that is not UTF-8 is
    /// `None`. A parameter without `=` has an empty value.
    pub fn query_values<'s>(&'s self, name: &str) -> impl Iterator<Item = Option<Cow<'s, str>>> {
        self.query().into_iter().flat_map(|query| query.split('&')).filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(key)? == name).then(|| percent_decoded(value))
        })
    }

    /// The authority of the request, in lower case, with port if one was given.
    pub fn authority(&self) -> &str {
        self.authority.get_or_init(|| ask!(self, authority()))
    }

    /// The first value of a header; the case of `name` does not matter. `None` if it is absent or not UTF-8.
    ///
    /// Free for a declared header, a call to the gateway for any other. Where a second value would be an attack
    /// (for example with credentials), check [`values`](Self::values).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a header, in order of reception.
    pub fn values(&self, name: &str) -> Values<'_> {
        self.headers.values(name).unwrap_or_else(|| self.read.values(name, || ask!(self, header(name))))
    }

    /// Every header, in order of reception. This copies all of them, so prefer [`values`](Self::values).
    pub fn headers(&self) -> Vec<Header> {
        ask!(self, headers())
    }

    /// The value of a cookie (RFC 6265 section 4.2), without surrounding quotes; `None` if it is absent.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.values("cookie").filter_map(|value| std::str::from_utf8(value).ok()).find_map(|line| {
            line.split(';').find_map(|pair| {
                let (key, value) = pair.trim().split_once('=')?;
                let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                (key == name).then(|| unquoted.unwrap_or(value))
            })
        })
    }

    /// `http` or `https`: the scheme of the client's connection or, behind a trusted proxy, the scheme that the
    /// proxy reports.
    pub fn scheme(&self) -> String {
        ask!(self, scheme())
    }

    /// The client's address without port; behind trusted proxies, the last address that is not trusted.
    pub fn client_address(&self) -> String {
        ask!(self, client_address())
    }

    /// The identity of the caller, after authentication.
    pub fn identity(&self) -> Option<Identity> {
        ask!(self, identity())
    }

    /// Fields of a verified TLS client certificate: `subject`, `san`, `fingerprint`. Empty without a certificate.
    pub fn client_certificate(&self) -> Vec<(String, String)> {
        ask!(self, client_certificate())
    }

    /// Name of the route that was chosen.
    pub fn route(&self) -> String {
        ask!(self, route())
    }

    /// A parameter of the route's path (`{name}`), percent-decoded.
    pub fn path_parameter(&self, name: &str) -> Option<String> {
        ask!(self, path_parameter(name))
    }

    /// The path as the client sent it, before normalization and rewriting.
    pub fn original_path(&self) -> String {
        ask!(self, original_path())
    }

    /// The request id, which the log and the upstream get, too.
    pub fn request_id(&self) -> String {
        ask!(self, request_id())
    }

    /// The W3C `traceparent` under which this call runs: with the gateway's own span, if it exports spans; otherwise as the
    /// client sent it, and empty if it sent none or several.
    pub fn trace_parent(&self) -> String {
        ask!(self, trace_parent())
    }

    /// The trailers; empty before the last call with the body.
    pub fn trailers(&self) -> Vec<Header> {
        ask!(self, trailers())
    }
}

/// Each accessor of [`Request`] reads one input: `header`, `values` and `cookie` read [`Input::header`], `path_parameter`
/// reads [`Input::path_parameter`], `query_parameter` and
/// `query_values` read [`Input::Query`], and the others the input of their name.
impl Input {
    /// All values of a request header.
    pub fn header(name: impl Into<String>) -> Self {
        Self::Header(name.into())
    }

    /// A parameter of the route's path.
    pub fn path_parameter(name: impl Into<String>) -> Self {
        Self::PathParameter(name.into())
    }
}

impl Identity {
    /// An identity with this subject, e.g. the `sub` of a token or the name of a key. It must not be empty.
    pub fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), claims: Vec::new() }
    }

    /// Adds a claim. The gateway's configuration decides which claims become headers.
    #[must_use]
    pub fn with_claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.push((name.into(), value.into()));
        self
    }

    /// The first claim of that name.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Header {
    /// One header field; its name is kept in lower case. The gateway refuses names that are not tokens and values
    /// with control bytes.
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: lower_case(name), value: value.into() }
    }
}

/// The name of a header in lower case, which the contracts require.
pub(crate) fn lower_case(name: impl Into<String>) -> String {
    let mut name = name.into();
    name.make_ascii_lowercase();
    name
}

/// Decodes `application/x-www-form-urlencoded`; borrows the text if nothing in it is encoded.
pub(crate) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| byte == b'%').and_then(hexadecimal);
        rest = if escaped.is_some() { &after[2..] } else { after };
        decoded.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}
