//! What is kept of one body, and who gets its copy.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::BodyExt;

use super::memory::BodyMemory;
use super::*;
use crate::testing;

fn refused(memory: &BodyMemory, purpose: &str) -> u64 {
    memory.refused().find(|(word, _)| *word == purpose).map_or(0, |(_, count)| count)
}

/// Limits that allow further attempts with bodies of up to so many bytes.
fn room(each: usize) -> Room {
    Room { each, all: usize::MAX, taken: Arc::default() }
}

/// The results with which the functions for copies were called.
type CopyResults = Rc<RefCell<Vec<Result<Bytes, NoCopy>>>>;

/// A body of "some" and "data", copied up to `limit` and kept up to `each` bytes.
fn copied_and_kept(limit: usize, each: usize, memory: &Arc<BodyMemory>) -> (ReplayBuffer, CopyResults) {
    let told = CopyResults::default();
    let log = told.clone();
    let body = testing::chunks(vec![Ok(b"some"), Ok(b"data")]);
    let body = ReplayBuffer::copied(body, limit, memory, move |whole| {
        log.borrow_mut().push(whole.map(|whole| whole.bytes));
    });
    (ReplayBuffer::for_attempts(body, room(each), memory), told)
}

#[test]
fn what_is_kept_for_attempts_and_for_a_copy_is_kept_once() {
    testing::run(async {
        let memory = BodyMemory::new(100, None);
        let (buffer, told) = copied_and_kept(8, 8, &memory);
        let mut first = buffer.again().unwrap();
        first.frame().await.unwrap().unwrap();
        assert_eq!(memory.used(), 4);
        assert_eq!(testing::bytes(buffer.again().unwrap()).await.unwrap(), "somedata");
        assert_eq!(*told.borrow(), [Ok(Bytes::from_static(b"somedata"))]);
        buffer.give_up();
        assert_eq!(memory.used(), 0, "the copy that was told is dropped, and so is the body");
    });
}

#[test]
fn the_larger_of_two_bounds_decides_what_is_kept_and_each_of_them_who_gets_it() {
    testing::run(async {
        let memory = BodyMemory::new(100, None);
        // The response head has come, and the copy is not complete yet.
        let (buffer, told) = copied_and_kept(8, 8, &memory);
        let mut body = buffer.again().unwrap();
        body.frame().await.unwrap().unwrap();
        buffer.give_up();
        assert_eq!(memory.used(), 4);
        assert_eq!(testing::bytes(body).await.unwrap(), "data");
        assert_eq!((told.borrow_mut().pop(), memory.used()), (Some(Ok("somedata".into())), 0));

        let (buffer, told) = copied_and_kept(7, 8, &memory);
        assert_eq!(testing::bytes(buffer.again().unwrap()).await.unwrap(), "somedata");
        assert_eq!(*told.borrow(), [Err(NoCopy::TooLong)]);
        assert_eq!(testing::bytes(buffer.again().unwrap()).await.unwrap(), "somedata");
        assert_eq!(memory.used(), 8);

        let (buffer, told) = copied_and_kept(8, 7, &memory);
        assert_eq!(testing::bytes(buffer.again().unwrap()).await.unwrap(), "somedata");
        assert_eq!(*told.borrow(), [Ok(Bytes::from_static(b"somedata"))]);
        assert!(buffer.is_gone() && buffer.again().is_none());
    });
}

#[test]
fn where_the_memory_is_used_up_both_are_given_up_and_counted_and_the_body_goes_through() {
    testing::run(async {
        let memory = BodyMemory::new(7, None);
        let (buffer, told) = copied_and_kept(8, 8, &memory);
        assert_eq!(testing::bytes(buffer.again().unwrap()).await.unwrap(), "somedata");
        assert_eq!(*told.borrow(), [Err(NoCopy::NoMemory)]);
        assert!(buffer.is_gone());
        assert_eq!((memory.used(), refused(&memory, "retry"), refused(&memory, "mirror")), (0, 1, 1));

        // Two pieces fit, their joined copy does not.
        let memory = BodyMemory::new(8, None);
        let (buffer, told) = copied_and_kept(8, 8, &memory);
        assert_eq!(testing::bytes(buffer.again().unwrap()).await.unwrap(), "somedata");
        assert_eq!(*told.borrow(), [Err(NoCopy::NoMemory)]);
        assert!(buffer.whole().is_none() && !buffer.is_gone());
        assert_eq!((refused(&memory, "retry"), refused(&memory, "hedge")), (0, 1));
    });
}

#[test]
fn a_copy_of_a_body_that_breaks_off_or_is_not_read_is_cut() {
    testing::run(async {
        let memory = BodyMemory::new(100, None);
        let told = CopyResults::default();
        for read in [true, false] {
            let log = told.clone();
            let broken = testing::chunks(vec![Ok(b"some"), Err("reset")]);
            let body = ReplayBuffer::copied(broken, 8, &memory, move |whole| {
                log.borrow_mut().push(whole.map(|whole| whole.bytes));
            });
            if read {
                assert!(testing::bytes(body).await.is_err());
            }
        }
        assert_eq!(*told.borrow(), [Err(NoCopy::Cut), Err(NoCopy::Cut)]);
        assert_eq!(memory.used(), 0);
    });
}
