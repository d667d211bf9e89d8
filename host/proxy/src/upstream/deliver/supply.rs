//! The body of a request, for as many attempts as it takes.
//!
//! What is at hand is handed out again and again. A body that streams is kept while the first attempt takes it, up to a
//! bound, if the request may be sent again at all; past the bound it is let go, and the request is sent once. Keeping
//! delays nothing: each piece goes on as it comes.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};

/// A body that attempts are supplied with.
pub(super) enum Supply {
    /// Bytes at hand, or none.
    AtHand(Body),
    /// Streams, and is kept.
    Kept(Rc<RefCell<Recording>>),
    /// Streams, and can be given once; none: it is gone.
    Once(Option<Body>),
}

/// A streaming body with what has come of it.
pub(super) struct Recording {
    source: Body,
    /// Of the whole body.
    size: SizeHint,
    bytes: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Whether too much came to be kept.
    overflowed: bool,
    /// Bytes that are kept at most.
    limit: usize,
    /// Which reader is the latest. An earlier one belongs to an attempt that was given up and gets nothing more.
    reader: u32,
}

impl Supply {
    /// Keeps a body that streams only if `limit` says how much of it.
    pub(super) fn new(body: Body, limit: Option<usize>) -> Supply {
        if matches!(body, Body::Full(_)) {
            return Supply::AtHand(body);
        }
        if body.is_end_stream() {
            return Supply::AtHand(Body::Empty);
        }
        let shortest = body.size_hint().lower();
        match limit.filter(|limit| shortest <= *limit as u64) {
            Some(limit) => Supply::Kept(Rc::new(RefCell::new(Recording::of(body, limit)))),
            None => Supply::Once(Some(body)),
        }
    }

    /// The body for the next attempt; none: it cannot be sent again.
    pub(super) fn next(&mut self) -> Option<Body> {
        match self {
            Supply::AtHand(body) => Some(copy(body)),
            Supply::Kept(recording) => Reader::begin(recording).map(Body::wrap),
            Supply::Once(body) => body.take(),
        }
    }

    /// A second copy of the body while the first is still being sent.
    pub(super) fn beside(&self) -> Option<Body> {
        match self {
            Supply::AtHand(body) => Some(copy(body)),
            Supply::Kept(recording) => recording.borrow().whole(),
            Supply::Once(_) => None,
        }
    }

    /// Takes back a body of which nothing was sent. What is kept is read anew instead.
    pub(super) fn put_back(&mut self, unsent: Body) {
        if let Supply::Once(body) = self {
            *body = Some(unsent);
        }
    }

    /// Whether there is a body for another attempt.
    pub(super) fn is_left(&self) -> bool {
        match self {
            Supply::AtHand(_) => true,
            Supply::Kept(recording) => !recording.borrow().overflowed,
            Supply::Once(body) => body.is_some(),
        }
    }
}

fn copy(at_hand: &Body) -> Body {
    match at_hand {
        Body::Full(bytes) => Body::Full(bytes.clone()),
        _ => Body::Empty,
    }
}

impl Recording {
    fn of(source: Body, limit: usize) -> Recording {
        Recording {
            size: source.size_hint(),
            source,
            bytes: BytesMut::new(),
            trailers: None,
            ended: false,
            overflowed: false,
            limit,
            reader: 0,
        }
    }

    /// All of it, once it has come.
    fn whole(&self) -> Option<Body> {
        let whole = self.ended && !self.overflowed && self.trailers.is_none();
        whole.then(|| Body::from(Bytes::copy_from_slice(&self.bytes)))
    }

    /// Copies, because a piece may hold on to a read buffer many times its size.
    fn keep(&mut self, piece: &[u8]) {
        if self.overflowed {
            return;
        }
        if self.bytes.len() + piece.len() > self.limit {
            self.overflowed = true;
            self.bytes = BytesMut::new();
        } else {
            self.bytes.extend_from_slice(piece);
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
            Poll::Ready(Some(Err(_))) => self.overflowed = true,
            Poll::Pending => {}
        }
        polled
    }
}

/// The body of one attempt: what was kept, then what comes.
struct Reader {
    recording: Rc<RefCell<Recording>>,
    number: u32,
    position: usize,
    trailers_given: bool,
}

impl Reader {
    fn begin(recording: &Rc<RefCell<Recording>>) -> Option<Reader> {
        let mut latest = recording.borrow_mut();
        if latest.overflowed {
            return None;
        }
        latest.reader += 1;
        let number = latest.reader;
        Some(Reader { recording: recording.clone(), number, position: 0, trailers_given: false })
    }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut recording = this.recording.borrow_mut();
        if recording.reader != this.number {
            return Poll::Ready(Some(Err("the attempt was given up".into())));
        }
        if this.position < recording.bytes.len() {
            let kept = Bytes::copy_from_slice(&recording.bytes[this.position..]);
            this.position += kept.len();
            return Poll::Ready(Some(Ok(Frame::data(kept))));
        }
        if !recording.ended {
            let polled = recording.poll_source(context);
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                this.position += frame.data_ref().map_or(0, Bytes::len);
                this.trailers_given |= frame.is_trailers();
            }
            return polled;
        }
        match &recording.trailers {
            Some(trailers) if !this.trailers_given => {
                this.trailers_given = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))))
            }
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let recording = self.recording.borrow();
        recording.ended
            && self.position >= recording.bytes.len()
            && (self.trailers_given || recording.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let whole = &self.recording.borrow().size;
        let given = self.position as u64;
        let mut left = SizeHint::new();
        if let Some(upper) = whole.upper() {
            left.set_upper(upper.saturating_sub(given));
        }
        left.set_lower(whole.lower().saturating_sub(given));
        left
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::testing::{bytes, chunks, run};

    async fn text(body: Body) -> String {
        String::from_utf8(bytes(body).await.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn what_streams_is_kept_and_given_again() {
        run(async {
            let mut supply = Supply::new(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(64));
            let mut first = supply.next().unwrap();
            assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
            assert!(supply.beside().is_none(), "it has not all come");
            // The second goes on where the first was given up, and the first gets nothing more.
            let second = supply.next().unwrap();
            assert!(first.frame().await.unwrap().is_err());
            assert_eq!(text(second).await, "one two three");
            assert_eq!(text(supply.beside().unwrap()).await, "one two three");
            assert_eq!(text(supply.next().unwrap()).await, "one two three");
        });
    }

    #[test]
    fn what_is_too_long_goes_through_once() {
        run(async {
            let mut supply = Supply::new(chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]), Some(8));
            assert_eq!(text(supply.next().unwrap()).await, "one two three");
            assert!(!supply.is_left() && supply.next().is_none() && supply.beside().is_none());
            let mut at_the_limit = Supply::new(chunks(vec![Ok(b"12345678")]), Some(8));
            assert_eq!(text(at_the_limit.next().unwrap()).await, "12345678");
            assert_eq!(text(at_the_limit.next().unwrap()).await, "12345678");
        });
    }

    #[test]
    fn what_is_not_kept_comes_back_only_unsent() {
        run(async {
            let mut supply = Supply::new(chunks(vec![Ok(b"data")]), None);
            let body = supply.next().unwrap();
            assert!(!supply.is_left() && supply.next().is_none());
            supply.put_back(body);
            assert_eq!(text(supply.next().unwrap()).await, "data");
        });
    }

    #[test]
    fn what_is_at_hand_is_given_as_often_as_it_takes() {
        run(async {
            for (body, expected) in [(Body::Empty, ""), (Body::Full("data".into()), "data")] {
                let mut supply = Supply::new(body, None);
                for _ in 0..3 {
                    assert_eq!(text(supply.next().unwrap()).await, expected);
                    assert_eq!(text(supply.beside().unwrap()).await, expected);
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
            let mut supply = Supply::new(body, Some(64));
            for _ in 0..2 {
                let collected = supply.next().unwrap().collect().await.unwrap();
                assert_eq!(collected.trailers().unwrap()["etag"], "x");
            }
            let mut broken = Supply::new(chunks(vec![Ok(b"a"), Err("reset")]), Some(64));
            assert!(bytes(broken.next().unwrap()).await.is_err());
            assert!(!broken.is_left());
        });
    }
}
