//! The decisions on the body of a request: authentication, refusal and routing by body.

use bytes::Bytes;

use super::{Binding, Call, CallResult, Decision, Destination, LocalResponse};

/// What a decision reads of the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the bytes are.
    pub form: BodyForm,
    /// How much of the body is read.
    pub extent: Extent,
}

/// What the bytes are that a decision reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// As they were received, before any content coding is undone.
    Raw,
    /// The content, with its coding undone.
    Decoded,
}

/// How much of a body a decision reads. Both numbers are in bytes and at most the `body_limit` of the binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it. A longer body is refused.
    Whole(usize),
    /// Its beginning, at most this long.
    Peek(usize),
}

impl Extent {
    /// The most bytes that are read.
    pub fn bytes(self) -> usize {
        match self {
            Extent::Whole(bytes) | Extent::Peek(bytes) => bytes,
        }
    }

    /// Whether a longer body is refused.
    pub fn is_whole(self) -> bool {
        matches!(self, Extent::Whole(_))
    }
}

/// The body of a request, or its beginning, as a decision reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyContent {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether they are the whole body.
    pub complete: bool,
}

/// A binding that finds out who the caller is by the body. What it reads is in
/// [`Interest::authenticates_by_body`](super::Interest::authenticates_by_body).
pub trait AuthenticationByBody: Binding {
    /// Finds out who the caller is. The decision is never remembered, whatever it says.
    fn authenticate_by_body<'a>(&'a self, call: Call<'a>, content: BodyContent) -> CallResult<'a, Decision>;
}

/// A binding that refuses requests by their bodies. What it reads is in
/// [`Interest::refuses_by_body`](super::Interest::refuses_by_body).
pub trait RefusalByBody: Binding {
    /// Decides about the request; `Some` is the response that is sent instead.
    fn refuse_by_body<'a>(
        &'a self,
        call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<LocalResponse>>;
}

/// A binding that chooses by their bodies where requests go. What it reads is in
/// [`Interest::routes_by_body`](super::Interest::routes_by_body).
pub trait RoutingByBody: Binding {
    /// Chooses where the request goes; `None` leaves the earlier choice as it is.
    fn route_by_body<'a>(
        &'a self,
        call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<Destination>>;
}
