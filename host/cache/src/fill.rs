//! Bodies that are stored while they pass.
//!
//! A body whose length is known is read by a task of its own ([`pump`]) as fast as it comes, and everybody who asks for it
//! reads along ([`Growing`]), so a slow client keeps nobody waiting. A body whose length is not known passes to the client
//! that asked for it, and is stored when it has ended ([`Recording`]). What breaks off is discarded.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
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
    end: Option<Result<(), ()>>,
    readers: Vec<Waker>,
}

impl Growing {
    pub(crate) fn new(length: usize) -> Arc<Growing> {
        Arc::new(Growing { length, state: Mutex::default() })
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
        if state.end != Some(Ok(())) {
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
struct Writer(Arc<Growing>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.end.get_or_insert(Err(()));
        });
    }
}

/// Reads a body of known length to its end. Returns it as one piece; `None` if it breaks off or is longer or shorter than
/// it was said to be.
pub(crate) async fn pump(mut body: Body, growing: Arc<Growing>) -> Option<Bytes> {
    let writer = Writer(growing);
    let growing = &writer.0;
    let mut bytes = 0;
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        match frame {
            Some(Ok(frame)) => {
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
            Some(Err(_)) => return None,
            None => break,
        }
    }
    if bytes < growing.length {
        return None;
    }
    growing.change(|state| state.end = Some(Ok(())));
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
        let mut state = this.growing.state();
        if let Some(chunk) = state.chunks.get(this.next) {
            this.next += 1;
            this.left -= chunk.len();
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(())) => Poll::Ready(Some(Err("the response broke off while it was being stored".into()))),
            None => {
                if !state.readers.iter().any(|reader| reader.will_wake(context.waker())) {
                    state.readers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

/// What becomes of a body that was recorded.
pub(crate) trait Recorder: Unpin {
    /// The body has ended.
    fn complete(self, body: Bytes);

    /// The body is too large.
    fn too_large(self);
}

/// Records a body of unknown length while it passes. If it breaks off, or is dropped before its end, the recorder is
/// dropped.
pub(crate) struct Recording<R> {
    body: Body,
    taken: Option<(R, Vec<u8>, Reservation)>,
    most: usize,
}

impl<R: Recorder> Recording<R> {
    pub(crate) fn new(body: Body, most: usize, reservation: Reservation, recorder: R) -> Self {
        Recording { body, taken: Some((recorder, Vec::new(), reservation)), most }
    }

    fn record(&mut self, frame: &Frame<Bytes>) {
        let Some((_, bytes, reservation)) = &mut self.taken else { return };
        match frame.data_ref() {
            Some(data) if bytes.len() + data.len() <= self.most && reservation.grow(data.len()) => {
                bytes.extend_from_slice(data);
            }
            // Trailers may be discarded (RFC 9110 section 6.5.1).
            None => {}
            Some(_) => {
                if let Some((recorder, ..)) = self.taken.take() {
                    recorder.too_large();
                }
            }
        }
    }

    fn end(&mut self) {
        if let Some((recorder, bytes, _reservation)) = self.taken.take() {
            recorder.complete(Bytes::from(bytes.into_boxed_slice()));
        }
    }
}

impl<R: Recorder> HttpBody for Recording<R> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                this.record(frame);
                // Not every consumer polls after the last frame.
                if this.body.is_end_stream() {
                    this.end();
                }
            }
            Poll::Ready(Some(Err(_))) => this.taken = None,
            Poll::Ready(None) => this.end(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
