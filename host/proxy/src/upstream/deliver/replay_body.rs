//! The body of a request, for as many attempts as it takes.
//!
//! What is at hand is handed out again and again. A body that streams is kept while an attempt takes it, up to a bound, as
//! long as it may be needed again: until the head of an answer has come. Past the bound it is let go, and the request is
//! sent once. Keeping delays nothing: each piece goes on as it comes.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::kept::{Kept, Room};
use crate::body::{Body, BodyError};

/// A body that attempts are supplied with.
pub(super) enum ReplayBody {
    /// Bytes at hand, or none.
    AtHand(Body),
    /// Streams, and is kept.
    Kept(Keeper),
    /// Streams, and can be given once; none: it is gone.
    Once(Option<Body>),
}

/// A body for one attempt, and how it is made anew.
pub(in crate::upstream) struct Supplied {
    pub(in crate::upstream) body: Body,
    pub(in crate::upstream) anew: Anew,
}

/// How a body is made anew for the same endpoint, where it has processed nothing of it.
pub(in crate::upstream) enum Anew {
    /// It cannot be.
    Never,
    AtHand(Body),
    Kept(Rc<RefCell<ReplayBuffer>>),
}

/// Keeps a recording as long as it may be asked for again.
pub(super) struct Keeper(Rc<RefCell<ReplayBuffer>>);

/// A streaming body with what has come of it.
pub(in crate::upstream) struct ReplayBuffer {
    source: Body,
    /// Of the whole body.
    size: SizeHint,
    kept: Kept,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Whether it cannot be given from the beginning any more.
    gone: bool,
    /// Whether the latest reader still reads what was kept.
    replayed: bool,
    /// Which reader is the latest. An earlier one belongs to an attempt that was given up and gets nothing more.
    reader: u32,
}

impl ReplayBody {
    /// Keeps what comes of a body that streams as long as there is `room`, however long it says it is: it may be refused
    /// before more than fits has gone on.
    pub(super) fn new(body: Body, room: Option<Room>) -> ReplayBody {
        if matches!(body, Body::Full(_)) {
            return ReplayBody::AtHand(body);
        }
        if body.is_end_stream() {
            return ReplayBody::AtHand(Body::Empty);
        }
        match room {
            Some(room) => ReplayBody::Kept(Keeper(Rc::new(RefCell::new(ReplayBuffer::of(body, room))))),
            None => ReplayBody::Once(Some(body)),
        }
    }

    /// The body for the next attempt; none: it cannot be sent again.
    pub(super) fn next(&mut self) -> Option<Supplied> {
        match self {
            ReplayBody::AtHand(body) => Some(Supplied::at_hand(copy(body))),
            ReplayBody::Kept(Keeper(buffer)) => {
                let body = Body::wrap(ReplayReader::begin(buffer)?);
                Some(Supplied { body, anew: Anew::Kept(buffer.clone()) })
            }
            ReplayBody::Once(body) => Some(Supplied { body: body.take()?, anew: Anew::Never }),
        }
    }

    /// A second copy of the body while the first is still being sent.
    pub(super) fn beside(&self) -> Option<Supplied> {
        match self {
            ReplayBody::AtHand(body) => Some(Supplied::at_hand(copy(body))),
            ReplayBody::Kept(Keeper(buffer)) => buffer.borrow_mut().whole().map(Supplied::at_hand),
            ReplayBody::Once(_) => None,
        }
    }

    /// Takes back a body of which nothing was sent. What is kept is read anew instead.
    pub(super) fn put_back(&mut self, unsent: Body) {
        if let ReplayBody::Once(body) = self {
            *body = Some(unsent);
        }
    }

    /// Whether there is a body for another attempt.
    pub(super) fn is_left(&self) -> bool {
        match self {
            ReplayBody::AtHand(_) => true,
            ReplayBody::Kept(Keeper(buffer)) => !buffer.borrow().gone,
            ReplayBody::Once(body) => body.is_some(),
        }
    }
}

impl Supplied {
    fn at_hand(body: Body) -> Supplied {
        let anew = Anew::AtHand(copy(&body));
        Supplied { body, anew }
    }
}

impl Anew {
    /// The body from its beginning; none: that is gone.
    pub(in crate::upstream) fn body(&self) -> Option<Body> {
        match self {
            Anew::Never => None,
            Anew::AtHand(body) => Some(copy(body)),
            Anew::Kept(buffer) => ReplayReader::begin(buffer).map(Body::wrap),
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
    /// There is an answer, or no further attempt: what is still to be sent goes through, and is kept no longer.
    fn drop(&mut self) {
        self.0.borrow_mut().give_up();
    }
}

impl ReplayBuffer {
    fn of(source: Body, room: Room) -> ReplayBuffer {
        ReplayBuffer {
            size: source.size_hint(),
            source,
            kept: Kept::new(room),
            trailers: None,
            ended: false,
            gone: false,
            replayed: false,
            reader: 0,
        }
    }

    /// All of it, once it has come.
    fn whole(&mut self) -> Option<Body> {
        let whole = self.ended && !self.gone && self.trailers.is_none();
        whole.then(|| Body::from(self.kept.whole()))
    }

    fn keep(&mut self, piece: &Bytes) {
        if !self.gone && !self.kept.keep(piece) {
            self.give_up();
        }
    }

    /// Lets the beginning go, but for what the latest reader has not had yet.
    fn give_up(&mut self) {
        self.gone = true;
        if !self.replayed {
            self.kept.clear();
        }
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.source).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                }
                self.ended = self.source.is_end_stream();
            }
            Poll::Ready(None) => self.ended = true,
            // What broke off is not sent again.
            Poll::Ready(Some(Err(_))) => self.give_up(),
            Poll::Pending => {}
        }
        polled
    }
}

/// The body of one attempt: what was kept, then what comes.
struct ReplayReader {
    buffer: Rc<RefCell<ReplayBuffer>>,
    number: u32,
    /// The next of the pieces that are kept; none: it has had them all.
    next: Option<usize>,
    /// Bytes that were given.
    given: u64,
    trailers_given: bool,
}

impl ReplayReader {
    fn begin(buffer: &Rc<RefCell<ReplayBuffer>>) -> Option<ReplayReader> {
        let mut latest = buffer.borrow_mut();
        if latest.gone {
            return None;
        }
        latest.reader += 1;
        latest.kept.settle();
        latest.replayed = true;
        let number = latest.reader;
        Some(ReplayReader { buffer: buffer.clone(), number, next: Some(0), given: 0, trailers_given: false })
    }

    /// The next piece of what is kept.
    fn replay(&mut self, buffer: &mut ReplayBuffer) -> Option<Bytes> {
        let next = self.next?;
        let piece = buffer.kept.piece(next);
        self.next = piece.as_ref().map(|_| next + 1);
        if piece.is_none() {
            buffer.replayed = false;
            if buffer.gone {
                buffer.kept.clear();
            }
        }
        piece
    }
}

impl HttpBody for ReplayReader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let shared = this.buffer.clone();
        let mut buffer = shared.borrow_mut();
        if buffer.reader != this.number {
            return Poll::Ready(Some(Err("the attempt was given up".into())));
        }
        if let Some(piece) = this.replay(&mut buffer) {
            this.given += piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if !buffer.ended {
            let polled = buffer.poll_source(context);
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                this.given += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.trailers_given |= frame.is_trailers();
            }
            return polled;
        }
        match &buffer.trailers {
            Some(trailers) if !this.trailers_given => {
                this.trailers_given = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))))
            }
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let buffer = self.buffer.borrow();
        let had_all = self.next.is_none_or(|next| next >= buffer.kept.pieces());
        buffer.ended && had_all && (self.trailers_given || buffer.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let whole = &self.buffer.borrow().size;
        let mut left = SizeHint::new();
        if let Some(upper) = whole.upper() {
            left.set_upper(upper.saturating_sub(self.given));
        }
        left.set_lower(whole.lower().saturating_sub(self.given));
        left
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::testing::{bytes, chunks, run};
    use crate::upstream::deliver::kept::tests::room;

    async fn text(supplied: Supplied) -> String {
        String::from_utf8(bytes(supplied.body).await.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_streams_is_kept_and_given_again() {
        run(async {
            let mut replay_body =
                ReplayBody::new(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room(64)));
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
                ReplayBody::new(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room(8)));
            assert_eq!(text(replay_body.next().unwrap()).await, "one two three");
            assert!(!replay_body.is_left() && replay_body.next().is_none() && replay_body.beside().is_none());
            let mut at_the_limit = ReplayBody::new(chunks(vec![Ok(b"12345678")]), Some(room(8)));
            assert_eq!(text(at_the_limit.next().unwrap()).await, "12345678");
            assert_eq!(text(at_the_limit.next().unwrap()).await, "12345678");
        });
    }

    #[test]
    fn what_is_not_kept_comes_back_only_unsent() {
        run(async {
            let mut replay_body = ReplayBody::new(chunks(vec![Ok(b"data")]), None);
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
                let mut replay_body = ReplayBody::new(body, None);
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
            let mut replay_body = ReplayBody::new(body, Some(room(64)));
            for _ in 0..2 {
                let collected = replay_body.next().unwrap().body.collect().await.unwrap();
                assert_eq!(collected.trailers().unwrap()["etag"], "x");
            }
            let mut broken = ReplayBody::new(chunks(vec![Ok(b"a"), Err("reset")]), Some(room(64)));
            assert!(bytes(broken.next().unwrap().body).await.is_err());
            assert!(!broken.is_left());
        });
    }

    #[test]
    fn what_was_sent_is_made_anew_without_being_asked_for_again() {
        run(async {
            let mut replay_body =
                ReplayBody::new(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room(64)));
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
            let (room, taken) = crate::upstream::deliver::kept::tests::counted(64, 64);
            let mut replay_body =
                ReplayBody::new(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(room));
            let mut first = replay_body.next().unwrap();
            first.body.frame().await.unwrap().unwrap();
            first.body.frame().await.unwrap().unwrap();
            assert_eq!(taken(), 8);
            // The second attempt is answered while it still reads what was kept for it.
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
            let (room, taken) = crate::upstream::deliver::kept::tests::counted(64, 10);
            let mut first = ReplayBody::new(chunks(vec![Ok(b"one "), Ok(b"two ")]), Some(room.clone()));
            let mut second = ReplayBody::new(chunks(vec![Ok(b"one "), Ok(b"two ")]), Some(room));
            assert_eq!(text(first.next().unwrap()).await, "one two ");
            assert_eq!(text(second.next().unwrap()).await, "one two ");
            assert!(first.is_left() && !second.is_left());
            assert_eq!(taken(), 8);
            drop(first);
            assert_eq!(taken(), 0);
        });
    }
}
