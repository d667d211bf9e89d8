//! Builders of requests and responses for tests.

use crate::bindings::host::witgate::plugin::types::RequestHead;
use crate::request::{ALL_BUT_HEADERS, Header, Identity, Request, Source};
use crate::response::{ResponseView, ViewSource};

/// A builder for `GET http://example.test/` from 192.0.2.1.
#[must_use]
pub fn request() -> RequestBuilder {
    RequestBuilder {
        parts: RequestParts {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            query: None,
            authority: "example.test".to_owned(),
            headers: Vec::new(),
            scheme: "http".to_owned(),
            client_address: "192.0.2.1".to_owned(),
            identity: None,
            client_certificate: Vec::new(),
            route: "test".to_owned(),
            path_parameters: Vec::new(),
            original_path: None,
            request_id: "00000000000000000000000000000001".to_owned(),
            trace_parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            trailers: Vec::new(),
        },
    }
}

/// A builder for a response of an upstream, without headers.
#[must_use]
pub fn response(status: u16) -> ResponseBuilder {
    ResponseBuilder {
        parts: ResponseParts { status, headers: Vec::new(), is_local: false, trailers: Vec::new() },
    }
}

/// All that the gateway knows about a request.
pub(crate) struct RequestParts {
    method: String,
    path: String,
    query: Option<String>,
    authority: String,
    headers: Vec<Header>,
    scheme: String,
    client_address: String,
    identity: Option<Identity>,
    client_certificate: Vec<(String, String)>,
    route: String,
    path_parameters: Vec<(String, String)>,
    original_path: Option<String>,
    request_id: String,
    trace_parent: String,
    trailers: Vec<Header>,
}

/// The functions of the `request` resource in the contracts.
impl RequestParts {
    pub(crate) fn header(&self, name: &str) -> Vec<Vec<u8>> {
        values(&self.headers, name)
    }

    pub(crate) fn headers(&self) -> Vec<Header> {
        self.headers.clone()
    }

    pub(crate) fn method(&self) -> String {
        self.method.clone()
    }

    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    pub(crate) fn query(&self) -> Option<String> {
        self.query.clone()
    }

    pub(crate) fn authority(&self) -> String {
        self.authority.clone()
    }

    pub(crate) fn scheme(&self) -> String {
        self.scheme.clone()
    }

    pub(crate) fn client_address(&self) -> String {
        self.client_address.clone()
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity.clone()
    }

    pub(crate) fn client_certificate(&self) -> Vec<(String, String)> {
        self.client_certificate.clone()
    }

    pub(crate) fn route(&self) -> String {
        self.route.clone()
    }

    pub(crate) fn path_parameter(&self, name: &str) -> Option<String> {
        self.path_parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn original_path(&self) -> String {
        self.original_path.clone().unwrap_or_else(|| self.path.clone())
    }

    pub(crate) fn request_id(&self) -> String {
        self.request_id.clone()
    }

    pub(crate) fn trace_parent(&self) -> String {
        self.trace_parent.clone()
    }

    pub(crate) fn trailers(&self) -> Vec<Header> {
        self.trailers.clone()
    }
}

/// Builds a [`Request`].
pub struct RequestBuilder {
    parts: RequestParts,
}

impl RequestBuilder {
    /// Sets the method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.parts.method = method.to_owned();
        self
    }

    /// Sets the path and, after a `?`, the query.
    #[must_use]
    pub fn path(mut self, target: &str) -> Self {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        self.parts.path = path.to_owned();
        self.parts.query = query.map(str::to_owned);
        self
    }

    /// Sets the authority.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        self.parts.authority = authority.to_owned();
        self
    }

    /// Adds a header; adding a name twice makes two values.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.parts.headers.push(Header::new(name, value));
        self
    }

    /// Sets the scheme.
    #[must_use]
    pub fn scheme(mut self, scheme: &str) -> Self {
        self.parts.scheme = scheme.to_owned();
        self
    }

    /// Sets the client's address.
    #[must_use]
    pub fn client_address(mut self, address: &str) -> Self {
        self.parts.client_address = address.to_owned();
        self
    }

    /// Sets the identity of the caller.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.parts.identity = Some(identity);
        self
    }

    /// Adds a field of the client's certificate.
    #[must_use]
    pub fn client_certificate(mut self, field: &str, value: &str) -> Self {
        self.parts.client_certificate.push((field.to_owned(), value.to_owned()));
        self
    }

    /// Names the route.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        self.parts.route = route.to_owned();
        self
    }

    /// Sets a parameter of the route's path.
    #[must_use]
    pub fn path_parameter(mut self, name: &str, value: &str) -> Self {
        self.parts.path_parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the path as the client sent it; the default is the path.
    #[must_use]
    pub fn original_path(mut self, path: &str) -> Self {
        self.parts.original_path = Some(path.to_owned());
        self
    }

    /// Sets the request id.
    #[must_use]
    pub fn request_id(mut self, id: &str) -> Self {
        self.parts.request_id = id.to_owned();
        self
    }

    /// Sets the W3C `traceparent`.
    #[must_use]
    pub fn trace_parent(mut self, trace_parent: &str) -> Self {
        self.parts.trace_parent = trace_parent.to_owned();
        self
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.parts.trailers.push(Header::new(name, value));
        self
    }

    /// The request, as a plugin reads it.
    #[must_use]
    pub fn build(self) -> Request<'static> {
        let head = RequestHead {
            method: Some(self.parts.method.clone()),
            path: Some(self.parts.path.clone()),
            query: self.parts.query.clone(),
            authority: Some(self.parts.authority.clone()),
            headers: Vec::new(),
        };
        Request::new(head, &ALL_BUT_HEADERS, Source::Test(Box::new(self.parts)))
    }
}

/// All that the gateway knows about a response.
pub(crate) struct ResponseParts {
    status: u16,
    headers: Vec<Header>,
    is_local: bool,
    trailers: Vec<Header>,
}

/// The functions of the `response-view` resource in the contracts.
impl ResponseParts {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn header(&self, name: &str) -> Vec<Vec<u8>> {
        values(&self.headers, name)
    }

    pub(crate) fn headers(&self) -> Vec<Header> {
        self.headers.clone()
    }

    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    pub(crate) fn trailers(&self) -> Vec<Header> {
        self.trailers.clone()
    }
}

/// Builds a [`ResponseView`].
pub struct ResponseBuilder {
    parts: ResponseParts,
}

impl ResponseBuilder {
    /// Adds a header; adding a name twice makes two values.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.parts.headers.push(Header::new(name, value));
        self
    }

    /// Marks the response as made by the gateway itself.
    #[must_use]
    pub fn local(mut self) -> Self {
        self.parts.is_local = true;
        self
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.parts.trailers.push(Header::new(name, value));
        self
    }

    /// The response, as a plugin reads it.
    #[must_use]
    pub fn build(self) -> ResponseView<'static> {
        ResponseView::without_head(ViewSource::Test(Box::new(self.parts)))
    }
}

fn values(headers: &[Header], name: &str) -> Vec<Vec<u8>> {
    let same = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    same.map(|header| header.value.clone()).collect()
}
