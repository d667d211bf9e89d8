//! A timer that is created only when something waits, and that is cheap to move.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A deadline that moves. The runtime's timer is reset only when it fires too early, not each time the deadline
/// moves, which on a busy connection is several times for each request.
#[derive(Default)]
pub struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    since: Option<Instant>,
    /// The task that the timer wakes, if [`Deadline::poll_by_owner`] was called last.
    owner: Option<Waker>,
}

impl Deadline {
    /// Ready once `until` has passed.
    pub fn poll(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        self.owner = None;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }

    /// As [`Deadline::poll`], for one task that polls repeatedly: its waker is registered once, and afterwards
    /// only the state of the timer is read.
    pub fn poll_by_owner(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        if let (Some(timer), Some(owner)) = (&self.timer, &self.owner)
            && owner.will_wake(context.waker())
            && timer.deadline() <= until
            && !timer.is_elapsed()
        {
            return Poll::Pending;
        }
        let passed = self.poll(until, context);
        self.owner = Some(context.waker().clone());
        passed
    }

    /// Passes on the result of a write; fails once the write has been pending for `patience`.
    pub fn poll_write<R>(
        &mut self,
        result: Poll<io::Result<R>>,
        patience: Duration,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.clear();
            return result;
        }
        let since = self.since();
        ready!(self.poll(since + patience, context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    /// When the wait began: the first call since [`Deadline::clear`].
    pub fn since(&mut self) -> Instant {
        *self.since.get_or_insert_with(Instant::now)
    }

    /// Begins the wait anew.
    pub fn restart(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Ends the wait.
    pub fn clear(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use witgate_exchange::testing;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn whoever_asked_last_is_woken() {
        // A task of its own, because the future given to `block_on` may be polled for other reasons.
        let asking = async {
            let mut deadline = Deadline::default();
            let until = Instant::now() + SOON;
            let ours = poll_fn(|context| Poll::Ready(deadline.poll_by_owner(until, context))).await;
            assert!(ours.is_pending());
            // A poll by another task, whose waker does nothing.
            assert!(deadline.poll(until, &mut Context::from_waker(Waker::noop())).is_pending());
            let met = poll_fn(|context| deadline.poll_by_owner(until, context));
            // If the owner were not woken, only this timeout would poll it again.
            tokio::time::timeout(Duration::from_secs(20), met).await.expect("it is over");
            assert!(Instant::now() >= until && Instant::now() < until + Duration::from_secs(10));
        };
        testing::run(async { tokio::task::spawn_local(asking).await }).expect("no panic");
    }

    #[test]
    fn a_deadline_that_moves_is_met_whichever_way() {
        testing::run(async {
            let begun = Instant::now();
            let mut deadline = Deadline::default();
            for until in [begun + SOON * 2, begun + SOON * 3, begun + SOON] {
                let asked = poll_fn(|context| Poll::Ready(deadline.poll_by_owner(until, context))).await;
                assert!(asked.is_pending());
            }
            poll_fn(|context| deadline.poll_by_owner(begun + SOON, context)).await;
            let met = Instant::now();
            poll_fn(|context| deadline.poll_by_owner(begun + SOON * 4, context)).await;
            assert!(met >= begun + SOON && Instant::now() >= begun + SOON * 4);
        });
    }
}
