//! Contract `gate`: whether a request is let in at all.

use super::{Answer, Binding, Call, CallResult, LocalResponse};

/// A binding that lets requests in or answers them, before anybody asks who sent them.
pub trait Gate: Binding {
    /// Decides whether the request is let in; `Some` is the response that is sent instead. The answer may be pure,
    /// with the inputs of [`Function::Admit`](super::Function::Admit).
    fn admit<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<LocalResponse>>>;
}
