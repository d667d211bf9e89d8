//! Contract `transformation`: changes to heads and bodies of requests and responses.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Binding, Call, CallResult, HeaderChange, LocalResponse, ResponseHead};

/// A binding that changes requests and responses.
///
/// Every binding is called with the head of a request. It is called with bodies and responses only if its
/// [`Interest`](super::Interest) declares them. A binding that declares none need not implement the functions for
/// them; the default ones change nothing.
pub trait Transformation: Binding {
    /// Called with the head of a request.
    fn transform_request<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>>;

    /// Called with a piece of the body of a request.
    fn transform_request_body<'a>(&'a self, _call: Call<'a>, _piece: Piece) -> CallResult<'a, BodyResult> {
        CallResult::over(Ok(BodyResult::default()))
    }

    /// Called with the head of a response, and with the context that the previous call left.
    fn transform_response<'a>(
        &'a self,
        _call: Call<'a>,
        _response: Arc<ResponseHead>,
        _context: Bytes,
    ) -> CallResult<'a, Answer<ResponseOutcome>> {
        CallResult::over(Ok(Answer::once(ResponseOutcome::Proceed(ResponseChanges::default()))))
    }

    /// Called with a piece of the body of a response.
    fn transform_response_body<'a>(
        &'a self,
        _call: Call<'a>,
        _response: Arc<ResponseHead>,
        _piece: Piece,
    ) -> CallResult<'a, BodyResult> {
        CallResult::over(Ok(BodyResult::default()))
    }
}

/// The result of `on-request`.
#[derive(Debug, Clone)]
pub enum RequestOutcome {
    /// The request goes on with these changes.
    Proceed(RequestChanges),
    /// This response is sent, and the request goes no further.
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
    /// The context, which is passed to the later calls.
    pub context: Bytes,
    /// Whether the binding declines the body of the response, whatever its interest says.
    pub declines_body: bool,
}

/// The result of `on-response`.
#[derive(Debug, Clone)]
pub enum ResponseOutcome {
    /// The response goes on with these changes.
    Proceed(ResponseChanges),
    /// This response is sent instead.
    Respond(LocalResponse),
}

/// Changes to a response's head.
#[derive(Debug, Clone, Default)]
pub struct ResponseChanges {
    /// Header edits in order.
    pub headers: Vec<HeaderChange>,
    /// Status.
    pub status: Option<u16>,
    /// The new context; `None` leaves it as it is.
    pub context: Option<Bytes>,
    /// Whether the binding declines the body of this response, whatever its interest says.
    pub declines_body: bool,
}

/// A piece of a body on its way to a plugin.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The decoded bytes.
    pub content: Bytes,
    /// Whether this is the last piece.
    pub end: bool,
    /// The context.
    pub context: Bytes,
}

/// The result of a call with a piece of a body.
#[derive(Debug, Clone, Default)]
pub struct BodyResult {
    /// Bytes to pass on; `None` passes on those of the call.
    pub output: Option<Bytes>,
    /// The new context; `None` leaves it as it is.
    pub context: Option<Bytes>,
    /// Ends the exchange with this response; only in calls with the body of a request.
    pub response: Option<LocalResponse>,
}
