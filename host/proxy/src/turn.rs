//! The time, read once a turn.
//!
//! A turn is one poll of a connection's task. What happens in it happens at one time: the request was begun and its
//! endpoint picked, or the answer was there and the exchange over. Reading the clock takes about 25 ns here, so a plain
//! request that takes two turns reads it twice instead of five times. What is timed for itself, a plugin's call, reads
//! it anew, and the turn goes on from there.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

thread_local! {
    static TIME: Cell<Time> = const { Cell::new(Time::Untold) };
    static GIVEN_UP: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Copy)]
enum Time {
    /// No turn is under way.
    Untold,
    /// Nobody has asked in this turn.
    Unread,
    /// What the clock said when it was read last in this turn.
    Read(Instant),
}

/// The time of the turn under way; outside of any, what the clock says.
pub fn now() -> Instant {
    match TIME.get() {
        Time::Read(time) => time,
        Time::Unread | Time::Untold => read(),
    }
}

/// What the clock says. The turn under way goes on from there.
pub fn read() -> Instant {
    let now = Instant::now();
    if !matches!(TIME.get(), Time::Untold) {
        TIME.set(Time::Read(now));
    }
    now
}

/// Gives the turn up: what comes next is done in another, behind all tasks that are ready.
///
/// A task that wakes itself goes to the end of the queue. `tokio::task::yield_now` would have it wait until the queue is
/// empty and the kernel was asked for more, which takes one more locked instruction and, where little is ready, a call of
/// the kernel for each turn: four plugins cost 0.96 of what they did with that (15 interleaved rounds).
pub(crate) async fn give_up() {
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

/// Whether the turn under way was given up: the next one comes without anything having to wake it.
pub(crate) fn is_given_up() -> bool {
    GIVEN_UP.get()
}

/// Takes a future to its end; each poll is a turn. It stays with the caller: taken as it is, it would be kept twice.
pub(crate) async fn by_turns<T>(mut future: Pin<&mut impl Future<Output = T>>) -> T {
    poll_fn(|context| {
        let _turn = Turn::begin();
        future.as_mut().poll(context)
    })
    .await
}

/// A turn under way. It ends where it panics, too.
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
