//! The contract `transformation`: changes of requests and responses.

use crate::bindings::host::witgate::plugin::types::HeaderChange as Change;
use crate::checked::{self, Direction};
use crate::plugin::{Interest, Plugin};
use crate::request::{Header, Request, lower_case};
use crate::response::{Response, ResponseView};

pub use crate::bindings::host::witgate::plugin::types::{ComposedHeader, HeaderChange, ValuePart};
pub use crate::bindings::transformation::exports::witgate::plugin::transformation::{
    BodyResult, RequestChanges, RequestOutcome, ResponseChanges, ResponseOutcome,
};

/// Changes requests and responses. Every method is optional.
///
/// On an impl block marked [`#[transformation]`](macro@crate::transformation), the gateway calls the methods that
/// the block has. Without the attribute, or if it depends on the settings, implement `interest`.
pub trait Transformation: Plugin {
    /// What the plugin reads: headers, bodies, responses.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// Called with the head of each request.
    fn on_request(&self, _request: &Request) -> RequestOutcome {
        RequestChanges::none().into()
    }

    /// Called with the body of a request: once with all of it (buffered), or for each chunk (streamed). For a
    /// request without a body, whatever its method, it is called once with an empty last chunk.
    fn on_request_body(&self, _chunk: Chunk, _request: &Request) -> BodyResult {
        BodyResult::unchanged()
    }

    /// Called with the head of each final response. `context` was set by the calls for the request.
    ///
    /// **Every** response passes here: also those that the gateway itself made, such as a fault, a redirect, or the answer of another
    /// plugin. A plugin that means responses of the upstream asks [`ResponseView::is_local`] first:
    ///
    /// ```
    /// use witgate_sdk::{Request, ResponseChanges, ResponseOutcome, ResponseView, Transformation, test, transformation};
    ///
    /// #[witgate_sdk::settings]
    /// struct Cached {}
    ///
    /// #[transformation]
    /// impl Transformation for Cached {
    ///     fn on_response(&self, response: &ResponseView, _: &Request, _: &[u8]) -> ResponseOutcome {
    ///         if response.is_local() {
    ///             return ResponseChanges::none().into();
    ///         }
    ///         ResponseChanges::none().set("cache-control", "max-age=60").into()
    ///     }
    /// }
    /// # fn main() {
    /// # let (plugin, request) = (test::configure::<Cached>("{}").unwrap(), test::request().build());
    /// # let unchanged = ResponseOutcome::Proceed(ResponseChanges::none());
    /// # assert_eq!(plugin.on_response(&test::response(503).local().build(), &request, &[]), unchanged);
    /// # assert_ne!(plugin.on_response(&test::response(200).build(), &request, &[]), unchanged);
    /// # }
    /// ```
    fn on_response(&self, _response: &ResponseView, _request: &Request, _context: &[u8]) -> ResponseOutcome {
        ResponseChanges::none().into()
    }

    /// Called with the body of a response, as `on_request_body`, even if it is empty. Not called for responses
    /// that have no body: to HEAD, 204 and 304.
    fn on_response_body(&self, _chunk: Chunk, _response: &ResponseView, _request: &Request) -> BodyResult {
        BodyResult::unchanged()
    }
}

/// A piece of a body, with its content coding (gzip, br, zstd) removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The bytes; all of them for a buffered body.
    pub content: Vec<u8>,
    /// Whether this is the last call; the content may be empty then.
    pub end: bool,
    /// What earlier calls for the same exchange stored. Keep state between chunks here, because the next chunk may
    /// be passed to another instance.
    pub context: Vec<u8>,
}

macro_rules! header_changes {
    ($changes:ident, $direction:expr) => {
        /// The case of names does not matter. In tests, what the gateway would refuse panics where it is built.
        impl $changes {
            /// Removes every value of the header, then adds this one.
            #[must_use]
            #[track_caller]
            pub fn set(self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
                self.with(Change::Set(Header::new(name, value)))
            }

            /// Adds a value and keeps the existing ones.
            #[must_use]
            #[track_caller]
            pub fn append(self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
                self.with(Change::Append(Header::new(name, value)))
            }

            #[track_caller]
            fn with(mut self, change: Change) -> Self {
                match &change {
                    Change::Set(header) | Change::Append(header) => {
                        checked::header(&header.name, &header.value, $direction);
                    }
                    Change::SetComposed(header) | Change::AppendComposed(header) => {
                        checked::name(&header.name, $direction);
                    }
                    Change::Remove(name) => checked::name(name, $direction),
                }
                self.headers.push(change);
                self
            }

            /// As `set`, with a value that the gateway composes: see [`ValuePart`].
            #[must_use]
            #[track_caller]
            pub fn set_composed(
                self,
                name: impl Into<String>,
                value: impl IntoIterator<Item = ValuePart>,
            ) -> Self {
                self.with(Change::set_composed(name, value))
            }

            /// As `append`, with a value that the gateway composes: see [`ValuePart`].
            #[must_use]
            #[track_caller]
            pub fn append_composed(
                self,
                name: impl Into<String>,
                value: impl IntoIterator<Item = ValuePart>,
            ) -> Self {
                self.with(Change::append_composed(name, value))
            }

            /// Removes every value of the header.
            #[must_use]
            #[track_caller]
            pub fn remove(self, name: impl Into<String>) -> Self {
                self.with(Change::Remove(lower_case(name)))
            }
        }
    };
}

impl HeaderChange {
    /// Replaces all values by one that the gateway composes. If a part of it is missing, the header is only
    /// removed.
    pub fn set_composed(name: impl Into<String>, value: impl IntoIterator<Item = ValuePart>) -> Self {
        Self::SetComposed(ComposedHeader { name: lower_case(name), value: value.into_iter().collect() })
    }

    /// Adds a value that the gateway composes, unless a part of it is missing.
    pub fn append_composed(name: impl Into<String>, value: impl IntoIterator<Item = ValuePart>) -> Self {
        Self::AppendComposed(ComposedHeader { name: lower_case(name), value: value.into_iter().collect() })
    }
}

/// The gateway composes the value for each request, out of at most 32 parts. So a remembered result can set a
/// different value for each request without a call. The result of this function is valid for all requests:
///
/// ```
/// use witgate_sdk::{Interest, Function, Request, RequestChanges, RequestOutcome, Transformation, ValuePart};
///
/// #[witgate_sdk::settings]
/// struct Caller {
///     claim: String,
/// }
///
/// impl Transformation for Caller {
///     fn interest(&self) -> Interest {
///         Interest::none().pure(Function::OnRequest, [])
///     }
///
///     fn on_request(&self, _: &Request) -> RequestOutcome {
///         let value = [ValuePart::Subject, ValuePart::text("/"), ValuePart::claim(&*self.claim)];
///         RequestChanges::none().set_composed("x-caller", value).into()
///     }
/// }
/// ```
///
/// In a test, [`test::composed`](crate::test::composed) composes a value as the gateway does.
impl ValuePart {
    /// A fixed text.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Text(text.into())
    }

    /// A parameter of the route's path.
    pub fn path_parameter(name: impl Into<String>) -> Self {
        Self::PathParameter(name.into())
    }

    /// The first value of a request header.
    pub fn request_header(name: impl Into<String>) -> Self {
        Self::RequestHeader(lower_case(name))
    }

    /// A claim of the identity.
    pub fn claim(name: impl Into<String>) -> Self {
        Self::Claim(name.into())
    }

    /// The first value of a response header.
    pub fn response_header(name: impl Into<String>) -> Self {
        Self::ResponseHeader(lower_case(name))
    }
}

header_changes!(RequestChanges, Direction::Request);
header_changes!(ResponseChanges, Direction::Response);

impl RequestChanges {
    /// Leaves the request unchanged.
    #[must_use]
    pub fn none() -> Self {
        Self { headers: Vec::new(), path: None, method: None, context: Vec::new() }
    }

    /// The path, with query if any, that is sent to the upstream.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The method that is sent to the upstream.
    #[must_use]
    #[track_caller]
    pub fn with_method(mut self, method: impl Into<String>) -> Self {
        let method = method.into();
        checked::method(&method);
        self.method = Some(method);
        self
    }

    /// Passes data to the later calls for the same exchange: at most the binding's `context_limit` bytes.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<Vec<u8>>) -> Self {
        self.context = context.into();
        self
    }
}

impl ResponseChanges {
    /// Leaves the response unchanged.
    #[must_use]
    pub fn none() -> Self {
        Self { headers: Vec::new(), status: None, context: None }
    }

    /// The status that is sent to the client: 200 to 599.
    #[must_use]
    #[track_caller]
    pub fn with_status(mut self, status: u16) -> Self {
        checked::response(status, 0);
        self.status = Some(status);
        self
    }

    /// Replaces the context, for the calls with the body of the response.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<Vec<u8>>) -> Self {
        self.context = Some(context.into());
        self
    }
}

impl BodyResult {
    /// Passes the bytes on unchanged.
    #[must_use]
    pub fn unchanged() -> Self {
        Self { output: None, context: None }
    }

    /// Passes these bytes on instead.
    pub fn replace(output: impl Into<Vec<u8>>) -> Self {
        Self { output: Some(output.into()), context: None }
    }

    /// Replaces the context, for the next chunk.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<Vec<u8>>) -> Self {
        self.context = Some(context.into());
        self
    }
}

impl From<RequestChanges> for RequestOutcome {
    fn from(changes: RequestChanges) -> Self {
        Self::Proceed(changes)
    }
}

impl From<Response> for RequestOutcome {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

/// Makes `?` usable in a plugin: both the value and the error convert into the outcome.
impl<T: Into<Self>, E: Into<Self>> From<Result<T, E>> for RequestOutcome {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

impl From<ResponseChanges> for ResponseOutcome {
    fn from(changes: ResponseChanges) -> Self {
        Self::Proceed(changes)
    }
}

impl From<Response> for ResponseOutcome {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}
