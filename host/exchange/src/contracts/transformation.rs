//! Contract `transformation`: changes to heads and bodies of requests and responses.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Binding, Call, CallResult, HeaderChange, LocalResponse, ResponseHead};

/// A binding that changes requests and responses.
///
/// Every binding is shown the head of a request. Only one whose [`Interest`](super::Interest) declares them is shown bodies
/// and responses: one that declares none need not implement these functions, which then change nothing.
pub trait Transformation: Binding {
    /// Sees the head of a request.
    fn transform_request<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>>;

    /// Sees a piece of the body of a request.
    fn transform_request_body<'a>(&'a self, _call: Call<'a>, _piece: Piece) -> CallResult<'a, BodyResult> {
        CallResult::over(Ok(BodyResult::default()))
    }

    /// Sees the head of a response, with the context that the call before left.
    fn transform_response<'a>(
        &'a self,
        _call: Call<'a>,
        _response: Arc<ResponseHead>,
        _context: Bytes,
    ) -> CallResult<'a, Answer<ResponseOutcome>> {
        CallResult::over(Ok(Answer::once(ResponseOutcome::Proceed(ResponseChanges::default()))))
    }

    /// Sees a piece of the body of a response.
    fn transform_response_body<'a>(
        &'a self,
        _call: Call<'a>,
        _response: Arc<ResponseHead>,
        _piece: Piece,
    ) -> CallResult<'a, BodyResult> {
        CallResult::over(Ok(BodyResult::default()))
    }
}

/// Answer of `on-request`.
#[derive(Debug, Clone)]
pub enum RequestOutcome {
    /// Go on with changes.
    Proceed(RequestChanges),
    /// Answer at once.
    Respond(LocalResponse),
}

/// Changes to a request's head.
#[derive(Debug, Clone, Default)]
pub struct RequestChanges {
    /// Header edits in order.
    pub headers: Vec<HeaderChange>,
    /// Path and query.
    pub path: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Handed to the later calls.
    pub context: Bytes,
}

/// Answer of `on-response`.
#[derive(Debug, Clone)]
pub enum ResponseOutcome {
    /// Go on with changes.
    Proceed(ResponseChanges),
    /// Send this instead.
    Respond(LocalResponse),
}

/// Changes to a response's head.
#[derive(Debug, Clone, Default)]
pub struct ResponseChanges {
    /// Header edits in order.
    pub headers: Vec<HeaderChange>,
    /// Status.
    pub status: Option<u16>,
    /// New context.
    pub context: Option<Bytes>,
}

/// A piece of a body on its way to a plugin.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Decoded bytes.
    pub content: Bytes,
    /// Whether it is the last.
    pub end: bool,
    /// The context.
    pub context: Bytes,
}

/// Answer of a body call.
#[derive(Debug, Clone, Default)]
pub struct BodyResult {
    /// Bytes to pass on; none: those given.
    pub output: Option<Bytes>,
    /// New context.
    pub context: Option<Bytes>,
}
