//! Bodies that are stored while they pass.
//!
//! A body is read by a task of its own as fast as it comes, so a slow client keeps nobody waiting. If its length is known,
//! everybody who asks for it reads along ([`pump`]). Otherwise only the client that asked for it does, and the others wait
//! until it is complete ([`pump_open`]): if it turns out to be too large, that client gets the rest as fast as it reads. What
//! breaks off is discarded.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use witgate_exchange::body::{Body, BodyError};

/// The memory for bodies that are being stored.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), most })
    }

    /// The bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes bytes until the reservation is dropped; `None` if there are not as many.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { budget: Arc::clone(self), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }
}

/// Bytes of a [`Budget`].
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Takes more bytes; `false` if there are not as many.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let fits = |used: usize| used.checked_add(more).filter(|used| *used <= self.budget.most);
        let grown = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.bytes += if grown { more } else { 0 };
        grown
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body of known length that is not complete yet. Several requests, on all cores, may read it.
#[derive(Debug)]
pub(crate) struct Growing {
    pub(crate) length: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: Vec<Bytes>,
    bytes: usize,
    end: Option<End>,
    readers: Vec<Waker>,
}

/// How a body has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Broken,
    /// The client that asked for it gets the rest apart.
    Apart,
}

/// The next piece of a body.
enum Piece {
    Chunk(Bytes),
    End(End),
}

/// The longest wait for a next piece of a body. An upstream that stalls must not keep others waiting for ever.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const BROKEN: &str = "the response broke off while it was being stored";

/// The next frame of a body: `None` if it breaks off or stalls, `Some(None)` at its end.
async fn next(body: &mut Body) -> Option<Option<Frame<Bytes>>> {
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
    tokio::time::timeout(LONGEST_PAUSE, frame).await.ok()?.transpose().ok()
}

impl Growing {
    /// A body of this length.
    pub(crate) fn new(length: usize) -> Arc<Growing> {
        Arc::new(Growing { length, state: Mutex::default() })
    }

    /// A body of unknown length.
    pub(crate) fn open() -> Arc<Growing> {
        Growing::new(0)
    }

    /// The chunk of this index, or the end; wakes the reader when there is one.
    fn poll_next(&self, index: usize, context: &mut Context<'_>) -> Poll<Piece> {
        let mut state = self.state();
        if let Some(chunk) = state.chunks.get(index) {
            return Poll::Ready(Piece::Chunk(chunk.clone()));
        }
        if let Some(end) = state.end {
            return Poll::Ready(Piece::End(end));
        }
        if !state.readers.iter().any(|reader| reader.will_wake(context.waker())) {
            state.readers.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let readers = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.readers)
        };
        readers.into_iter().for_each(Waker::wake);
    }

    /// The whole body as one piece, if it is complete.
    fn whole(&self) -> Option<Bytes> {
        let state = self.state();
        if state.end != Some(End::Complete) {
            return None;
        }
        match state.chunks.as_slice() {
            [only] => Some(only.clone()),
            chunks => {
                let mut whole = BytesMut::with_capacity(state.bytes);
                chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
                Some(whole.freeze())
            }
        }
    }
}

/// Marks a body as broken off if it is dropped before its end.
struct EndGuard(Arc<Growing>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.end.get_or_insert(End::Broken);
        });
    }
}

/// Reads a body of known length to its end. Returns it as one piece; `None` if it breaks off or is longer or shorter than
/// it was said to be.
pub(crate) async fn pump(mut body: Body, growing: Arc<Growing>) -> Option<Bytes> {
    let writer = EndGuard(growing);
    let growing = &writer.0;
    let mut bytes = 0;
    while let Some(frame) = next(&mut body).await? {
        // Trailers of a response may be discarded (RFC 9110 section 6.5.1).
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        if bytes > growing.length {
            return None;
        }
        // A copy, because the received bytes would keep the whole buffer in which they arrived.
        let data = Bytes::copy_from_slice(&data);
        growing.change(|state| {
            state.bytes += data.len();
            state.chunks.push(data);
        });
    }
    if bytes < growing.length {
        return None;
    }
    growing.change(|state| state.end = Some(End::Complete));
    growing.whole()
}

/// Reads along with a body that is being stored.
pub(crate) struct GrowingReader {
    growing: Arc<Growing>,
    next: usize,
    left: usize,
}

impl GrowingReader {
    pub(crate) fn new(growing: Arc<Growing>) -> GrowingReader {
        GrowingReader { left: growing.length, growing, next: 0 }
    }
}

impl HttpBody for GrowingReader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.growing.poll_next(this.next, context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Piece::Chunk(chunk)) => {
                this.next += 1;
                this.left -= chunk.len();
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Poll::Ready(Piece::End(End::Complete)) => Poll::Ready(None),
            Poll::Ready(Piece::End(End::Broken | End::Apart)) => Poll::Ready(Some(Err(BROKEN.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

/// What is left of a body of unknown length that turned out not to be storable, for the client that asked for it.
pub(crate) type Remainder = Rc<RefCell<Option<Unstored>>>;

/// See [`Remainder`].
pub(crate) enum Unstored {
    /// The rest of a body that is too large.
    Body(Body),
    /// The trailers.
    Trailers(HeaderMap),
}

/// Reads a body of unknown length to its end, and returns it as one piece. `None` if it breaks off, if it is larger than
/// `most` or the budget allows, or if it has trailers: then the client gets the rest itself.
pub(crate) async fn pump_open(
    mut body: Body,
    growing: Arc<Growing>,
    rest: Remainder,
    most: usize,
    reservation: &mut Reservation,
) -> Option<Bytes> {
    let writer = EndGuard(growing);
    let mut bytes = 0;
    while let Some(frame) = next(&mut body).await? {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = frame.into_trailers().ok()?;
                rest.replace(Some(Unstored::Trailers(trailers)));
                writer.0.change(|state| state.end = Some(End::Apart));
                return None;
            }
        };
        bytes += data.len();
        let fits = bytes <= most && reservation.grow(data.len());
        if !fits {
            rest.replace(Some(Unstored::Body(std::mem::take(&mut body))));
        }
        let data = Bytes::copy_from_slice(&data);
        writer.0.change(|state| {
            state.bytes += data.len();
            state.chunks.push(data);
            if !fits {
                state.end = Some(End::Apart);
            }
        });
        if !fits {
            return None;
        }
    }
    writer.0.change(|state| state.end = Some(End::Complete));
    writer.0.whole()
}

/// Reads along with a body of unknown length that is being stored, as the client that asked for it.
pub(crate) struct OpenReader {
    growing: Arc<Growing>,
    rest: Remainder,
    next: usize,
    /// The rest of a body that is not stored.
    body: Option<Body>,
}

impl OpenReader {
    pub(crate) fn new(growing: Arc<Growing>, rest: Remainder) -> OpenReader {
        OpenReader { growing, rest, next: 0, body: None }
    }
}

impl HttpBody for OpenReader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(body) = &mut this.body {
            return Pin::new(body).poll_frame(context);
        }
        match this.growing.poll_next(this.next, context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Piece::Chunk(chunk)) => {
                this.next += 1;
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Poll::Ready(Piece::End(End::Complete)) => Poll::Ready(None),
            Poll::Ready(Piece::End(End::Broken)) => Poll::Ready(Some(Err(BROKEN.into()))),
            Poll::Ready(Piece::End(End::Apart)) => match this.rest.take() {
                Some(Unstored::Body(body)) => Pin::new(this.body.insert(body)).poll_frame(context),
                Some(Unstored::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                None => Poll::Ready(None),
            },
        }
    }
}
