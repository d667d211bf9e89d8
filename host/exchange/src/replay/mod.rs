//! A request body that is read while it is kept, so that it can be given again.
//!
//! Whoever needs the body again holds it: further attempts until the response head has come, a mirror until the body has
//! ended. Each has a bound of its own; past it, it gets nothing, and the request goes on. What is kept is kept once, whoever
//! holds it, and all of it is counted in one total of the gateway ([`memory`]). Past that total, retries, hedges and mirrors
//! are given up and counted, and what cannot do without a whole body is answered with 503 and `Retry-After`. Keeping
//! delays nothing: each piece goes on as it comes.
//!
//! | file | what is there |
//! |---|---|
//! | [`memory`] | the total of the gateway |
//! | `kept` | the bytes of one body |
//! | `expose` | metrics |

pub mod expose;
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

/// A streaming body with what has come of it, shared by whoever reads it and whoever holds it.
#[derive(Clone)]
pub struct ReplayBuffer(Rc<RefCell<State>>);

/// How much may be kept for further attempts of a request.
#[derive(Clone)]
pub struct Room {
    /// Bytes of one body.
    pub each: usize,
    /// Bytes of all bodies of the upstream.
    pub all: usize,
    /// Bytes that are kept for all requests to the upstream now.
    pub taken: Arc<AtomicUsize>,
}

/// Why there is no copy of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCopy {
    /// It is longer than was asked for.
    TooLong,
    /// The gateway keeps as many bytes of bodies as it may.
    NoMemory,
    /// It broke off, or nobody read it to its end.
    Cut,
}

struct State {
    source: Body,
    /// Of the whole body.
    size: SizeHint,
    kept: KeptPieces,
    trailers: Option<HeaderMap>,
    /// Whether a piece of the source was asked for.
    begun: bool,
    ended: bool,
    /// What is kept for further attempts, charged until it is let go.
    attempts: Option<Charged>,
    /// Whether no further attempt may begin: nobody asked for it, or the beginning is not kept any more.
    gone: bool,
    copy: Option<PendingCopy>,
    /// Whether the latest reader still reads what was kept.
    replayed: bool,
    /// Which reader is the latest. An earlier one belongs to an attempt that was given up and gets nothing more.
    reader: u32,
}

/// Bytes that are charged to one upstream.
struct Charged {
    room: Room,
    bytes: usize,
}

/// Is told the whole body, or why there is no copy.
type OnCopy = Box<dyn FnOnce(Result<Whole, NoCopy>)>;

/// Whoever wants the whole body once it has come. Dropped before, it is told that there is no copy.
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
            replayed: false,
            reader: 0,
        })))
    }

    /// A buffer that keeps a body for several attempts. A body that is copied already is not kept a second time.
    pub fn for_attempts(body: Body, room: Room, memory: &Arc<BodyMemory>) -> ReplayBuffer {
        let buffer = match body {
            Body::Replay(reader) if !reader.buffer.0.borrow().begun => reader.buffer.clone(),
            body => ReplayBuffer::new(body, memory.clone()),
        };
        let mut state = buffer.0.borrow_mut();
        state.attempts = Some(Charged { room, bytes: 0 });
        state.gone = false;
        drop(state);
        buffer
    }

    /// Gives a body on, and `done` all of it once it has ended, if it has at most `limit` bytes.
    pub fn copied(
        body: Body,
        limit: usize,
        memory: &Arc<BodyMemory>,
        done: impl FnOnce(Result<Whole, NoCopy>) + 'static,
    ) -> Body {
        let buffer = ReplayBuffer::new(body, memory.clone());
        buffer.0.borrow_mut().copy = Some(PendingCopy { limit, done: Some(Box::new(done)) });
        Body::Replay(Box::new(buffer.reader()))
    }

    /// A body for one attempt; none: its beginning is not kept any more. Readers before it get nothing more.
    pub fn again(&self) -> Option<Body> {
        (!self.is_gone()).then(|| Body::Replay(Box::new(self.reader())))
    }

    fn reader(&self) -> ReplayReader {
        let mut state = self.0.borrow_mut();
        state.reader += 1;
        state.kept.settle();
        state.replayed = true;
        let number = state.reader;
        ReplayReader { buffer: self.clone(), number, next: Some(0), given: 0, trailers_given: false }
    }

    /// All of it, once it has come; none: not yet, or it is not kept any more.
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

    /// Whether no further attempt can be made with it.
    pub fn is_gone(&self) -> bool {
        self.0.borrow().gone
    }

    /// No further attempt is made. What the latest reader has not read yet is kept until it has.
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
        !self.gone || self.copy.is_some()
    }

    fn give_up(&mut self) {
        self.gone = true;
        self.let_go();
    }

    /// Lets go what nobody wants any more, but for what the latest reader has not had yet.
    fn let_go(&mut self) {
        if self.gone && !self.replayed {
            self.attempts = None;
            if self.copy.is_none() {
                self.kept.clear();
            }
        }
    }

    /// The body has come to its end.
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
            // What broke off is not sent again.
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
    /// Charges more bytes; false: there is no room for them.
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

/// The body of one attempt: what was kept, then what comes.
pub struct ReplayReader {
    buffer: ReplayBuffer,
    number: u32,
    /// The next of the pieces that are kept; none: it has had them all.
    next: Option<usize>,
    /// Bytes that were given.
    given: u64,
    trailers_given: bool,
}

impl ReplayReader {
    /// The next piece of what is kept.
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
