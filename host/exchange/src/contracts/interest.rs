//! What a binding declares to look at.

use http::HeaderName;

use super::Reading;

/// What a binding declares to look at, for a plugin by the result of `lifecycle.configure`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// Lower-case names of request headers.
    pub request_headers: Vec<HeaderName>,
    /// Lower-case names of response headers.
    pub response_headers: Vec<HeaderName>,
    /// Access to the request body.
    pub request_body: BodyAccess,
    /// Access to the response body.
    pub response_body: BodyAccess,
    /// Whether it is called with response heads.
    pub response: bool,
    /// The inputs of `authenticate`; `None` stands for every input. An acceptance that names no inputs itself is
    /// based on these.
    pub authenticates_by: Option<Box<[Input]>>,
    /// What `authentication-by-body` reads; `None` if the binding does not serve it.
    pub authenticates_by_body: Option<Reading>,
    /// What `refusal-by-body` reads; `None` if the binding does not serve it.
    pub refuses_by_body: Option<Reading>,
    /// What `routing-by-body` reads; `None` if the binding does not serve it.
    pub routes_by_body: Option<Reading>,
    /// For each function of [`Function::ALL`] the inputs that alone determine its result; `None` if the function
    /// is not declared pure.
    pub pure: [Option<Box<[Input]>>; Function::ALL.len()],
}

impl Interest {
    /// No body, no response, and no function that is declared pure.
    pub const NOTHING: Interest = Interest {
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        request_body: BodyAccess::None,
        response_body: BodyAccess::None,
        response: false,
        authenticates_by: None,
        authenticates_by_body: None,
        refuses_by_body: None,
        routes_by_body: None,
        pure: [const { None }; Function::ALL.len()],
    };

    /// The inputs that determine the result of a function; `None` if it is not declared pure.
    pub fn inputs(&self, function: Function) -> Option<&[Input]> {
        self.pure[function as usize].as_deref()
    }
}

/// The functions that may be declared pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the contracts' functions")]
pub enum Function {
    Draw,
    Route,
    OnRequest,
    OnResponse,
    Admit,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 5] =
        [Function::Draw, Function::Route, Function::OnRequest, Function::OnResponse, Function::Admit];

    /// The name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Function::Draw => "draw",
            Function::Route => "route",
            Function::OnRequest => "on-request",
            Function::OnResponse => "on-response",
            Function::Admit => "admit",
        }
    }
}

/// A part of a request on which a result may depend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of parts of a request")]
pub enum Input {
    Header(HeaderName),
    Method,
    Path,
    Query,
    Authority,
    Scheme,
    OriginalPath,
    ClientAddress,
    ClientCertificate,
    Identity,
    Route,
    PathParameter(Box<str>),
}

/// The most inputs on which one result may depend.
pub const INPUTS: usize = 32;

/// How a plugin sees a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyAccess {
    /// Not at all.
    #[default]
    None,
    /// Whole.
    Buffered,
    /// Chunk by chunk.
    Streamed,
}
