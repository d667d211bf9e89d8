//! Reading the beginning of a body before any of it is sent, so that decisions can be made on it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;

use super::ReplayBuffer;
use super::memory::BodyMemory;
use crate::body::{Body, BodyError};

/// Why a body cannot be read for a decision.
#[derive(Debug)]
pub enum Unread {
    /// The gateway's memory for bodies is used up.
    NoMemory,
    /// The body itself failed.
    Failed(BodyError),
}

impl ReplayBuffer {
    /// A buffer that keeps all that is read of a body, until [`ReplayBuffer::inspected`] passes the body on.
    pub fn for_inspection(body: Body, memory: &Arc<BodyMemory>) -> ReplayBuffer {
        let buffer = ReplayBuffer::new(body, memory.clone());
        buffer.0.borrow_mut().inspected = true;
        buffer
    }

    /// Reads until at least this number of bytes is kept, or the body has ended; returns whether it has ended.
    ///
    /// # Errors
    /// The memory for bodies is used up, or the body failed. Then the body must not be passed on.
    pub async fn read_until(&self, bytes: usize) -> Result<bool, Unread> {
        poll_fn(|context| {
            loop {
                let mut state = self.0.borrow_mut();
                if !state.inspected {
                    return Poll::Ready(Err(Unread::NoMemory));
                }
                if state.ended || state.kept.bytes() >= bytes {
                    return Poll::Ready(Ok(state.ended));
                }
                if let Some(Err(error)) = ready!(state.poll_source(context)) {
                    return Poll::Ready(Err(Unread::Failed(error)));
                }
            }
        })
        .await
    }

    /// The kept bytes, at most so many, in one buffer.
    pub fn beginning(&self, bytes: usize) -> Bytes {
        let mut state = self.0.borrow_mut();
        let joined = state.kept.joined();
        joined.slice(..joined.len().min(bytes))
    }

    /// Ends the decisions: the body from its beginning. What was read of it is kept until it is read again.
    pub fn inspected(self) -> Body {
        let reader = self.reader();
        self.0.borrow_mut().inspected = false;
        Body::Replay(Box::new(reader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Room;
    use crate::testing;

    fn pieces() -> Body {
        testing::chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")])
    }

    #[test]
    fn the_beginning_is_read_as_far_as_needed_and_the_whole_body_goes_on() {
        testing::run(async {
            let memory = BodyMemory::new(100, None);
            let buffer = ReplayBuffer::for_inspection(pieces(), &memory);
            assert!(!buffer.read_until(3).await.unwrap());
            assert_eq!((buffer.beginning(3), memory.used()), (Bytes::from_static(b"one"), 4));
            assert!(!buffer.read_until(5).await.unwrap());
            assert_eq!(buffer.beginning(100), "one two ");
            let body = buffer.inspected();
            assert_eq!(memory.used(), 8, "what was read is kept until it is sent");
            assert_eq!(testing::bytes(body).await.unwrap(), "one two three");
            assert_eq!(memory.used(), 0);
        });
    }

    #[test]
    fn a_body_that_ends_is_whole_and_an_empty_one_has_length_0() {
        testing::run(async {
            let memory = BodyMemory::new(100, None);
            for (body, expected) in [(pieces(), "one two three"), (Body::Empty, "")] {
                let buffer = ReplayBuffer::for_inspection(body, &memory);
                assert!(buffer.read_until(usize::MAX).await.unwrap());
                assert_eq!(buffer.beginning(usize::MAX), expected);
                assert_eq!(memory.used(), expected.len(), "the joined pieces are counted once");
                assert_eq!(testing::bytes(buffer.inspected()).await.unwrap(), expected);
            }
        });
    }

    #[test]
    fn what_was_read_for_a_decision_is_not_kept_a_second_time_for_attempts_or_a_copy() {
        testing::run(async {
            let memory = BodyMemory::new(100, None);
            let buffer = ReplayBuffer::for_inspection(pieces(), &memory);
            assert!(!buffer.read_until(8).await.unwrap());
            let (sender, mut copy) = copy_taker();
            let body = ReplayBuffer::copied(buffer.inspected(), 20, &memory, sender);
            let room = Room { each: 20, all: 20, taken: Arc::default() };
            let taken = room.taken.clone();
            let attempts = ReplayBuffer::for_attempts(body, room, &memory);
            assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 8);
            for _ in 0..2 {
                assert_eq!(testing::bytes(attempts.again().unwrap()).await.unwrap(), "one two three");
            }
            assert_eq!(copy(), Some("one two three".into()));
            assert_eq!(memory.used(), 13);
            attempts.give_up();
            drop(attempts);
            assert_eq!(memory.used(), 0);
        });
    }

    #[test]
    fn a_body_that_has_no_room_for_attempts_after_a_decision_is_still_sent_once() {
        testing::run(async {
            let memory = BodyMemory::new(100, None);
            let buffer = ReplayBuffer::for_inspection(pieces(), &memory);
            assert!(!buffer.read_until(8).await.unwrap());
            let room = Room { each: 7, all: 20, taken: Arc::default() };
            let attempts = ReplayBuffer::for_attempts(buffer.inspected(), room, &memory);
            assert_eq!(testing::bytes(attempts.again().unwrap()).await.unwrap(), "one two three");
            assert!(attempts.is_gone());
        });
    }

    #[test]
    fn a_body_for_which_there_is_no_memory_and_one_that_fails_are_told_apart() {
        testing::run(async {
            let memory = BodyMemory::new(7, None);
            let buffer = ReplayBuffer::for_inspection(pieces(), &memory);
            assert!(matches!(buffer.read_until(8).await, Err(Unread::NoMemory)));
            assert_eq!(memory.refused().find(|(word, _)| *word == "plugin"), Some(("plugin", 1)));
            drop(buffer);
            assert_eq!(memory.used(), 0);
            let body = testing::chunks(vec![Ok(b"a"), Err("reset")]);
            let buffer = ReplayBuffer::for_inspection(body, &memory);
            assert!(matches!(buffer.read_until(8).await, Err(Unread::Failed(_))));
        });
    }

    /// A function that receives a copy, and one that returns it.
    fn copy_taker()
    -> (impl FnOnce(Result<crate::replay::Whole, crate::replay::NoCopy>), impl FnMut() -> Option<Bytes>) {
        let told = std::rc::Rc::new(std::cell::RefCell::new(None));
        let log = told.clone();
        (
            move |whole: Result<crate::replay::Whole, _>| {
                *log.borrow_mut() = whole.ok().map(|whole| whole.bytes);
            },
            move || told.borrow_mut().take(),
        )
    }
}
