//! A result that is there, or is waited for.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;

/// A result that is there, or is waited for.
///
/// Most calls are over before there is anything to wait for: their results need no boxed future.
pub enum MaybeReady<'a, T> {
    /// It is there.
    Ready(Ready<T>),
    /// It waits for something, on the core that asked.
    Pending(LocalBoxFuture<'a, T>),
}

impl<'a, T> MaybeReady<'a, T> {
    /// What is there.
    pub fn over(result: T) -> Self {
        MaybeReady::Ready(ready(result))
    }

    /// What is waited for.
    pub fn waiting(call: impl Future<Output = T> + 'a) -> Self {
        MaybeReady::Pending(Box::pin(call))
    }

    /// What is there; none if it is waited for, which is given up by that.
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
