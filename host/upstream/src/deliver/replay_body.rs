//! The body of a request, for all its attempts.
//!
//! A body that is in memory, or empty, is supplied again for each attempt. A streaming body is kept by a
//! [`ReplayBuffer`] while an attempt sends it, until the response head has come, because until then it may be
//! needed again. If it exceeds its bounds, it is no longer kept, and the request is sent only once.

use std::sync::Arc;

use http_body::Body as _;

use witgate_exchange::body::Body;
use witgate_exchange::replay::memory::BodyMemory;
use witgate_exchange::replay::{ReplayBuffer, Room, Whole};

/// The body from which attempts are supplied.
pub(crate) enum ReplayBody {
    /// The whole body is in memory, or there is none.
    AtHand(Body),
    /// A streaming body that is kept.
    Kept(Keeper),
    /// A streaming body that can be supplied once; `None` after that.
    Once(Option<Body>),
}

/// The body for one attempt, and how it can be made again.
pub(crate) struct Supplied {
    pub(crate) body: Body,
    pub(crate) anew: Anew,
}

/// How a body is made again for the same endpoint, if the endpoint has processed nothing of it.
pub(crate) enum Anew {
    /// It cannot be made again.
    Never,
    AtHand(Body),
    Whole(Whole),
    Kept(ReplayBuffer),
}

/// Keeps a streaming body as long as it may be needed again.
pub(crate) struct Keeper(ReplayBuffer);

impl ReplayBody {
    /// Keeps what arrives of a streaming body as long as `room` and `memory` allow it. The declared length does
    /// not matter: the endpoint may refuse the request before more than fits has been sent.
    pub(crate) fn new(body: Body, room: Option<Room>, memory: &Arc<BodyMemory>) -> ReplayBody {
        if matches!(body, Body::Full(_)) {
            return ReplayBody::AtHand(body);
        }
        if body.is_end_stream() {
            return ReplayBody::AtHand(Body::Empty);
        }
        match room {
            Some(room) => ReplayBody::Kept(Keeper(ReplayBuffer::for_attempts(body, room, memory))),
            None => ReplayBody::Once(Some(body)),
        }
    }

    /// The body for the next attempt. `None` if it cannot be sent again.
    pub(crate) fn next(&mut self) -> Option<Supplied> {
        match self {
            ReplayBody::AtHand(body) => Some(Supplied::at_hand(body)),
            ReplayBody::Kept(Keeper(buffer)) => {
                Some(Supplied { body: buffer.again()?, anew: Anew::Kept(buffer.clone()) })
            }
            ReplayBody::Once(body) => Some(Supplied { body: body.take()?, anew: Anew::Never }),
        }
    }

    /// A second copy of the body, while the first is still being sent.
    pub(crate) fn beside(&self) -> Option<Supplied> {
        match self {
            ReplayBody::AtHand(body) => Some(Supplied::at_hand(body)),
            ReplayBody::Kept(Keeper(buffer)) => {
                let whole = buffer.whole()?;
                Some(Supplied { body: Body::from(whole.bytes.clone()), anew: Anew::Whole(whole) })
            }
            ReplayBody::Once(_) => None,
        }
    }

    /// Takes back a body of which nothing was sent. A kept body is read again from its buffer instead.
    pub(crate) fn put_back(&mut self, unsent: Body) {
        if let ReplayBody::Once(body) = self {
            *body = Some(unsent);
        }
    }

    /// Whether there is a body for another attempt.
    pub(crate) fn is_left(&self) -> bool {
        match self {
            ReplayBody::AtHand(_) => true,
            ReplayBody::Kept(Keeper(buffer)) => !buffer.is_gone(),
            ReplayBody::Once(body) => body.is_some(),
        }
    }
}

impl Supplied {
    fn at_hand(body: &Body) -> Supplied {
        Supplied { body: copy(body), anew: Anew::AtHand(copy(body)) }
    }
}

impl Anew {
    /// Whether the body can be made again.
    pub(crate) fn is_possible(&self) -> bool {
        match self {
            Anew::Never => false,
            Anew::AtHand(_) | Anew::Whole(_) => true,
            Anew::Kept(buffer) => !buffer.is_gone(),
        }
    }

    /// The body from its beginning. `None` if it is no longer kept.
    pub(crate) fn body(&self) -> Option<Body> {
        match self {
            Anew::Never => None,
            Anew::AtHand(body) => Some(copy(body)),
            Anew::Whole(whole) => Some(Body::from(whole.bytes.clone())),
            Anew::Kept(buffer) => buffer.again(),
        }
    }
}

fn copy(at_hand: &Body) -> Body {
    match at_hand {
        Body::Full(bytes) => Body::Full(bytes.clone()),
        _ => Body::Empty,
    }
}

impl Drop for Keeper {
    /// Called when there is a response, or no further attempt. The rest of the body passes through and is no
    /// longer kept.
    fn drop(&mut self) {
        self.0.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::BodyExt;
    use witgate_exchange::body::BodyError;

    use super::*;
    use crate::testing::{bytes, chunks, run};

    /// Room for this many bytes of each body.
    fn room(each: usize) -> Room {
        counted(each, usize::MAX).0
    }

    /// Room, and how much of it is taken.
    fn counted(each: usize, all: usize) -> (Room, impl Fn() -> usize) {
        let taken = Arc::<AtomicUsize>::default();
        (Room { each, all, taken: taken.clone() }, move || taken.load(Ordering::Relaxed))
    }

    /// A body that is kept within this room, and in memory that is never used up.
    fn replayed(body: Body, room: Option<Room>) -> ReplayBody {
        ReplayBody::new(body, room, &BodyMemory::new(usize::MAX, None))
    }

    async fn text(supplied: Supplied) -> String {
        String::from_utf8(bytes(supplied.body).await.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_streams_is_kept_and_given_again() {
        run(async {
            let mut replay_body =
                replayed(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room(64)));
            let mut first = replay_body.next().unwrap();
            assert_eq!(first.body.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
            assert!(replay_body.beside().is_none(), "it has not all come");
            // The second goes on where the first was given up, and the first gets nothing more.
            let second = replay_body.next().unwrap();
            assert!(first.body.frame().await.unwrap().is_err());
            assert_eq!(text(second).await, "one two three");
            assert_eq!(text(replay_body.beside().unwrap()).await, "one two three");
            assert_eq!(text(replay_body.next().unwrap()).await, "one two three");
        });
    }

    #[test]
    fn what_is_too_long_goes_through_once() {
        run(async {
            let mut replay_body =
                replayed(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room(8)));
            assert_eq!(text(replay_body.next().unwrap()).await, "one two three");
            assert!(!replay_body.is_left() && replay_body.next().is_none() && replay_body.beside().is_none());
            let mut at_the_limit = replayed(chunks(vec![Ok(b"12345678")]), Some(room(8)));
            assert_eq!(text(at_the_limit.next().unwrap()).await, "12345678");
            assert_eq!(text(at_the_limit.next().unwrap()).await, "12345678");
        });
    }

    #[test]
    fn what_is_not_kept_comes_back_only_unsent() {
        run(async {
            let mut replay_body = replayed(chunks(vec![Ok(b"data")]), None);
            let body = replay_body.next().unwrap();
            assert!(!replay_body.is_left() && replay_body.next().is_none());
            replay_body.put_back(body.body);
            assert_eq!(text(replay_body.next().unwrap()).await, "data");
        });
    }

    #[test]
    fn what_is_at_hand_is_given_as_often_as_it_takes() {
        run(async {
            for (body, expected) in [(Body::Empty, ""), (Body::Full("data".into()), "data")] {
                let mut replay_body = replayed(body, None);
                for _ in 0..3 {
                    assert_eq!(text(replay_body.next().unwrap()).await, expected);
                    assert_eq!(text(replay_body.beside().unwrap()).await, expected);
                }
            }
        });
    }

    #[test]
    fn trailers_are_kept_and_a_broken_body_is_not() {
        run(async {
            let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
            let frames = [Ok::<_, BodyError>(Frame::data("a".into())), Ok(Frame::trailers(trailers))];
            let body = Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
            let mut replay_body = replayed(body, Some(room(64)));
            for _ in 0..2 {
                let collected = replay_body.next().unwrap().body.collect().await.unwrap();
                assert_eq!(collected.trailers().unwrap()["etag"], "x");
            }
            let mut broken = replayed(chunks(vec![Ok(b"a"), Err("reset")]), Some(room(64)));
            assert!(bytes(broken.next().unwrap().body).await.is_err());
            assert!(!broken.is_left());
        });
    }

    #[test]
    fn what_was_sent_is_made_anew_without_being_asked_for_again() {
        run(async {
            let mut replay_body =
                replayed(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room(64)));
            let mut first = replay_body.next().unwrap();
            for piece in ["one ", "two "] {
                assert_eq!(first.body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
            }
            let mut second = first.anew.body().unwrap();
            assert_eq!(second.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
            // A third attempt, after a second that was given up half-way.
            let third = first.anew.body().unwrap();
            assert_eq!(third.size_hint().lower(), 0);
            assert_eq!(bytes(third).await.unwrap(), "one two three");
        });
    }

    #[test]
    fn nothing_is_kept_once_there_is_an_answer() {
        run(async {
            let (room, taken) = counted(64, 64);
            let mut replay_body = replayed(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room));
            let mut first = replay_body.next().unwrap();
            first.body.frame().await.unwrap().unwrap();
            first.body.frame().await.unwrap().unwrap();
            assert_eq!(taken(), 8);
            // The response comes while the second attempt still reads what was kept for it.
            let mut second = replay_body.next().unwrap();
            second.body.frame().await.unwrap().unwrap();
            drop(replay_body);
            assert_eq!(taken(), 8);
            assert_eq!(bytes(second.body).await.unwrap(), "two three");
            assert_eq!(taken(), 0);
            assert!(second.anew.body().is_none());
        });
    }

    #[test]
    fn all_bodies_together_take_no_more_than_there_is_room_for() {
        run(async {
            let (room, taken) = counted(64, 10);
            let mut first = replayed(chunks(vec![Ok(b"one "), Ok(b"two ")]), Some(room.clone()));
            let mut second = replayed(chunks(vec![Ok(b"one "), Ok(b"two ")]), Some(room));
            assert_eq!(text(first.next().unwrap()).await, "one two ");
            assert_eq!(text(second.next().unwrap()).await, "one two ");
            assert!(first.is_left() && !second.is_left());
            assert_eq!(taken(), 8);
            drop(first);
            assert_eq!(taken(), 0);
        });
    }
}
