//! The clock, read at most once for each poll of a connection's task (a *turn*), because reading it several times
//! for each request is measurable.
//!
//! What happens within one poll is treated as simultaneous. Whatever is timed by itself, such as a plugin call,
//! calls [`read`], and later calls of [`now`] in the same poll return that newer time.

use crate::core_local::{GIVEN_UP, TIME};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

/// What is known of the time in this poll.
#[derive(Clone, Copy)]
pub(crate) enum Time {
    /// No poll is in progress.
    Untold,
    /// The clock was not read in this poll.
    Unread,
    /// The last reading in this poll.
    Read(Instant),
}

/// The time of the current poll; outside of any, the current time.
pub fn now() -> Instant {
    match TIME.get() {
        Time::Read(time) => time,
        Time::Unread | Time::Untold => read(),
    }
}

/// Reads the clock. [`now`] returns this time for the rest of the poll.
pub fn read() -> Instant {
    let now = Instant::now();
    if !matches!(TIME.get(), Time::Untold) {
        TIME.set(Time::Read(now));
    }
    now
}

/// Yields: the rest is done in another poll, after all tasks that are ready now.
///
/// The task wakes itself, which puts it at the end of the run queue. `tokio::task::yield_now` would defer it until
/// the queue is empty and the kernel was polled for events, which costs a system call for each yield.
pub async fn give_up() {
    let mut given_up = false;
    poll_fn(|context| {
        if given_up {
            return Poll::Ready(());
        }
        given_up = true;
        GIVEN_UP.set(!matches!(TIME.get(), Time::Untold));
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether the current poll ended with a yield, so that the next poll comes without any other wake-up.
pub fn is_given_up() -> bool {
    GIVEN_UP.get()
}

/// Drives a future to its end; each poll is a turn. Takes the future by reference, so that its memory is not
/// reserved twice.
pub async fn by_turns<T>(mut future: Pin<&mut impl Future<Output = T>>) -> T {
    poll_fn(|context| {
        let _turn = Turn::begin();
        future.as_mut().poll(context)
    })
    .await
}

/// Guard of a poll in progress. Dropped even if the poll panics.
struct Turn;

impl Turn {
    fn begin() -> Turn {
        TIME.set(Time::Unread);
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TIME.set(Time::Untold);
        GIVEN_UP.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::testing;

    fn passes(since: Instant) {
        while Instant::now() <= since {}
    }

    #[test]
    fn a_turn_has_one_time_until_the_clock_is_read_and_the_next_has_another() {
        let (first, second) = testing::run(by_turns(pin!(async {
            let first = now();
            passes(first);
            assert_eq!(now(), first);
            let read = read();
            assert!(read > first);
            assert_eq!(now(), read);
            tokio::task::yield_now().await;
            (read, now())
        })));
        assert!(second > first);
        let outside = now();
        assert!(outside > second);
        passes(outside);
        assert!(now() > outside, "no turn is under way");
    }

    #[test]
    fn a_turn_is_given_up_until_the_next() {
        let told = testing::run(by_turns(pin!(async {
            let mut given_up = Vec::new();
            let mut giving_up = pin!(give_up());
            poll_fn(|context| {
                let polled = giving_up.as_mut().poll(context);
                given_up.push((polled.is_pending(), is_given_up()));
                polled
            })
            .await;
            given_up
        })));
        assert_eq!(told, [(true, true), (false, false)]);
        testing::run(give_up());
        assert!(!is_given_up(), "no turn is under way");
    }

    #[test]
    fn a_turn_that_panics_is_over() {
        let panicked = std::panic::catch_unwind(|| {
            testing::run(by_turns(pin!(async {
                now();
                panic!("on purpose");
            })))
        });
        assert!(panicked.is_err());
        let time = now();
        passes(time);
        assert!(now() > time);
    }
}
