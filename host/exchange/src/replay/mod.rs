//! The replay body: a request body that is kept while it is read, so that it can be read again.
//!
//! Retries and hedges need it until the response head has arrived, a mirror until the body has ended. Each has a
//! limit of its own; decisions on the body ([`inspect`]) read as much of it as they need before any of it is sent.
//! When a body exceeds a limit, it is no longer kept for that user, and the request goes on.
//! A body is kept once, however many users it has, and all kept bytes are counted in one total of the gateway
//! ([`memory`]). When the total is reached, retries, hedges and mirrors are given up and counted, and a request
//! that needs its whole body in memory is refused with 503 and `Retry-After`. Keeping a body delays nothing: each
//! piece is passed on as it comes.
//!
//! | file | what is there |
//! |---|---|
//! | [`memory`] | the total of the gateway |
//! | `kept` | the bytes of one body |
//! | [`inspect`] | reading the beginning of a body before it is sent |
//! | `expose` | metrics |

pub mod expose;
pub mod inspect;
mod kept;
pub mod memory;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use self::kept::KeptPieces;
pub use self::kept::Whole;
use self::memory::{BodyMemory, Purpose};
use crate::body::{Body, BodyError};

/// A streaming body together with what was read of it, shared by its readers and by those who may need it again.
#[derive(Clone)]
pub struct ReplayBuffer(Rc<RefCell<State>>);

/// The limits on what may be kept for further attempts of a request.
#[derive(Clone)]
pub struct Room {
    /// The most bytes that are kept of one body.
    pub each: usize,
    /// The most bytes that are kept of all bodies of the upstream.
    pub all: usize,
    /// Bytes that are kept for all requests to the upstream now.
    pub taken: Arc<AtomicUsize>,
}

/// Why there is no copy of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCopy {
    /// The body is longer than the requested limit.
    TooLong,
    /// The gateway's memory for bodies is used up.
    NoMemory,
    /// The body failed, or nobody read it to its end.
    Cut,
}

struct State {
    source: Body,
    /// The size of the whole body.
    size: SizeHint,
    kept: KeptPieces,
    trailers: Option<HeaderMap>,
    /// Whether the source has been polled.
    begun: bool,
    ended: bool,
    /// The bytes kept for further attempts, charged until they are dropped.
    attempts: Option<Charged>,
    /// Whether no further attempt may begin, because none was requested or the beginning of the body is not kept
    /// any more.
    gone: bool,
    copy: Option<PendingCopy>,
    /// Whether decisions are still made on the body, so that all that is read of it is kept.
    inspected: bool,
    /// Whether the latest reader still reads kept pieces.
    replayed: bool,
    /// Number of the latest reader. Earlier readers belong to attempts that were given up, and get nothing more.
    reader: u32,
}

/// The bytes that one body has charged to its upstream.
struct Charged {
    room: Room,
    bytes: usize,
}

/// Called with the whole body, or with the reason why there is no copy.
type OnCopy = Box<dyn FnOnce(Result<Whole, NoCopy>)>;

/// The request for a copy of the whole body. If it is dropped early, its function is called with [`NoCopy::Cut`].
struct PendingCopy {
    limit: usize,
    done: Option<OnCopy>,
}

impl ReplayBuffer {
    fn new(source: Body, memory: Arc<BodyMemory>) -> ReplayBuffer {
        ReplayBuffer(Rc::new(RefCell::new(State {
            size: source.size_hint(),
            source,
            kept: KeptPieces::new(memory),
            trailers: None,
            begun: false,
            ended: false,
            attempts: None,
            gone: true,
            copy: None,
            inspected: false,
            replayed: false,
            reader: 0,
        })))
    }

    /// A buffer that keeps a body for several attempts. A body that is already kept for a copy is not kept a
    /// second time.
    pub fn for_attempts(body: Body, room: Room, memory: &Arc<BodyMemory>) -> ReplayBuffer {
        let mut attempts = Charged { room, bytes: 0 };
        let buffer = match body {
            Body::Replay(reader) if reader.is_untouched() && attempts.take(reader.buffer.kept()) => {
                reader.buffer.clone()
            }
            body => ReplayBuffer::new(body, memory.clone()),
        };
        let mut state = buffer.0.borrow_mut();
        state.attempts = Some(attempts);
        state.gone = false;
        drop(state);
        buffer
    }

    /// Returns a body that reads as `body` does. `done` is called with all of it once it has ended, or, possibly
    /// earlier, with the reason why there is no copy, for example because it is longer than `limit` bytes.
    pub fn copied(
        body: Body,
        limit: usize,
        memory: &Arc<BodyMemory>,
        done: impl FnOnce(Result<Whole, NoCopy>) + 'static,
    ) -> Body {
        let copy = PendingCopy { limit, done: Some(Box::new(done)) };
        let buffer = match body {
            Body::Replay(reader) if reader.is_untouched() => reader.buffer.clone(),
            body => ReplayBuffer::new(body, memory.clone()),
        };
        if buffer.kept() > limit {
            copy.tell(Err(NoCopy::TooLong));
        } else {
            let mut state = buffer.0.borrow_mut();
            state.copy = Some(copy);
            if state.ended {
                state.end();
            }
        }
        Body::Replay(Box::new(buffer.reader()))
    }

    /// A body for one more attempt; `None` if the beginning is not kept any more. Earlier readers get nothing
    /// more.
    pub fn again(&self) -> Option<Body> {
        (!self.is_gone()).then(|| Body::Replay(Box::new(self.reader())))
    }

    /// Number of bytes that are kept.
    pub fn kept(&self) -> usize {
        self.0.borrow().kept.bytes()
    }

    fn reader(&self) -> ReplayReader {
        let mut state = self.0.borrow_mut();
        state.reader += 1;
        state.kept.settle();
        state.replayed = true;
        let number = state.reader;
        ReplayReader { buffer: self.clone(), number, next: Some(0), given: 0, trailers_given: false }
    }

    /// The whole body in one buffer; `None` if it has not ended, has trailers, or is not kept any more.
    pub fn whole(&self) -> Option<Whole> {
        let mut state = self.0.borrow_mut();
        if !state.ended || state.gone || state.trailers.is_some() {
            return None;
        }
        let whole = state.kept.whole();
        if whole.is_none() {
            state.kept.memory().refuse(Purpose::Hedge);
        }
        whole
    }

    /// Whether no further attempt can be made with this body.
    pub fn is_gone(&self) -> bool {
        self.0.borrow().gone
    }

    /// Declares that no further attempt is made. Pieces that the latest reader has not read yet are kept until it
    /// has.
    pub fn give_up(&self) {
        self.0.borrow_mut().give_up();
    }
}

impl State {
    fn keep(&mut self, piece: &Bytes) {
        if !self.gone && !self.attempts.as_mut().is_some_and(|attempts| attempts.take(piece.len())) {
            self.gone = true;
        }
        let length = self.kept.bytes() + piece.len();
        if let Some(copy) = self.copy.take_if(|copy| length > copy.limit) {
            copy.tell(Err(NoCopy::TooLong));
        }
        if self.is_wanted() && !self.kept.keep(piece) {
            if std::mem::take(&mut self.inspected) {
                self.kept.memory().refuse(Purpose::Plugin);
            }
            if !std::mem::replace(&mut self.gone, true) {
                self.kept.memory().refuse(Purpose::Retry);
            }
            if let Some(copy) = self.copy.take() {
                self.kept.memory().refuse(Purpose::Mirror);
                copy.tell(Err(NoCopy::NoMemory));
            }
        }
        self.let_go();
    }

    fn is_wanted(&self) -> bool {
        !self.gone || self.copy.is_some() || self.inspected
    }

    fn give_up(&mut self) {
        self.gone = true;
        self.let_go();
    }

    /// Drops what nobody needs any more. Pieces that the latest reader has yet to read are kept.
    fn let_go(&mut self) {
        if self.gone && !self.replayed && !self.inspected {
            self.attempts = None;
            if self.copy.is_none() {
                self.kept.clear();
            }
        }
    }

    /// Notes that the body has ended.
    fn end(&mut self) {
        self.ended = true;
        if let Some(copy) = self.copy.take() {
            let whole = self.kept.whole();
            if whole.is_none() {
                self.kept.memory().refuse(Purpose::Mirror);
            }
            copy.tell(whole.ok_or(NoCopy::NoMemory));
            self.let_go();
        }
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.begun = true;
        let polled = Pin::new(&mut self.source).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                }
                if self.source.is_end_stream() {
                    self.end();
                }
            }
            Poll::Ready(None) => self.end(),
            // A request whose body failed is not sent again.
            Poll::Ready(Some(Err(_))) => {
                self.copy = None;
                self.give_up();
            }
            Poll::Pending => {}
        }
        polled
    }
}

impl Charged {
    /// Charges more bytes. Returns `false`, and charges none, if a limit would be exceeded.
    fn take(&mut self, bytes: usize) -> bool {
        if self.bytes + bytes > self.room.each {
            return false;
        }
        let before = self.room.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.room.all;
        if fits {
            self.bytes += bytes;
        } else {
            self.room.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl PendingCopy {
    fn tell(mut self, whole: Result<Whole, NoCopy>) {
        if let Some(done) = self.done.take() {
            done(whole);
        }
    }
}

impl Drop for PendingCopy {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(NoCopy::Cut));
        }
    }
}

/// The body of one attempt: first the kept pieces, then the rest of the source.
pub struct ReplayReader {
    buffer: ReplayBuffer,
    number: u32,
    /// Index of the next kept piece; `None` once all of them were read.
    next: Option<usize>,
    /// Number of bytes that were read.
    given: u64,
    trailers_given: bool,
}

impl ReplayReader {
    /// Whether nothing was read by it yet, and everything that was read of the body before is kept for it.
    fn is_untouched(&self) -> bool {
        let state = self.buffer.0.borrow();
        state.reader == self.number
            && self.next == Some(0)
            && (!state.begun || (state.replayed && !self.trailers_given))
    }

    /// The next kept piece.
    fn replay(&mut self, state: &mut State) -> Option<Bytes> {
        let next = self.next?;
        let piece = state.kept.piece(next);
        self.next = piece.as_ref().map(|_| next + 1);
        if piece.is_none() {
            state.replayed = false;
            state.let_go();
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
        let mut state = shared.0.borrow_mut();
        if state.reader != this.number {
            return Poll::Ready(Some(Err("the attempt was given up".into())));
        }
        if let Some(piece) = this.replay(&mut state) {
            this.given += piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if !state.ended {
            let polled = state.poll_source(context);
            if let Poll::Ready(Some(Ok(frame))) = &polled {
                this.given += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.trailers_given |= frame.is_trailers();
            }
            return polled;
        }
        match &state.trailers {
            Some(trailers) if !this.trailers_given => {
                this.trailers_given = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))))
            }
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.buffer.0.borrow();
        let had_all = self.next.is_none_or(|next| next >= state.kept.pieces());
        state.ended && had_all && (self.trailers_given || state.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let whole = &self.buffer.0.borrow().size;
        let mut left = SizeHint::new();
        if let Some(upper) = whole.upper() {
            left.set_upper(upper.saturating_sub(self.given));
        }
        left.set_lower(whole.lower().saturating_sub(self.given));
        left
    }
}
