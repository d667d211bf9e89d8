//! A result that is ready, or that is waited for.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;

/// A result that is ready, or that is waited for.
///
/// Most calls end without waiting, and their results need no boxed future.
pub enum MaybeReady<'a, T> {
    /// The result.
    Ready(Ready<T>),
    /// The rest of the call, which waits on the core that made it.
    Pending(LocalBoxFuture<'a, T>),
}

impl<'a, T> MaybeReady<'a, T> {
    /// A result that is ready.
    pub fn over(result: T) -> Self {
        MaybeReady::Ready(ready(result))
    }

    /// A result that is waited for.
    pub fn waiting(call: impl Future<Output = T> + 'a) -> Self {
        MaybeReady::Pending(Box::pin(call))
    }

    /// The result if it is ready; otherwise the call is dropped.
    pub fn at_once(self) -> Option<T> {
        match self {
            MaybeReady::Ready(result) => Some(result.into_inner()),
            MaybeReady::Pending(_) => None,
        }
    }
}

impl<T> Future for MaybeReady<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            MaybeReady::Ready(result) => Pin::new(result).poll(context),
            MaybeReady::Pending(call) => call.as_mut().poll(context),
        }
    }
}
