//! A request on its way out: its head, and its body piece by piece.

use std::cell::Cell;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncWrite;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};

use crate::protocol::http1::field;
use crate::upstream::request::{Framing, is_of_connection};
use crate::upstream::resumed::Resumed;
use crate::upstream::socket::Socket;
use crate::upstream::upload::{Broken, Upload, of_request};

/// The buffer heads are written in; a larger one is not kept.
const LEAD_BYTES: usize = 16 * 1024;

thread_local! {
    /// One buffer serves all requests of a core: only one of them is written at a time, and what the socket does not take
    /// at once is rare.
    static LEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is still to be written.
#[derive(Default)]
pub(super) struct Sending {
    /// Goes before the data: a head, the size of a chunk.
    lead: Vec<u8>,
    /// How much of it is written.
    written: usize,
    data: Bytes,
    /// Goes behind the data.
    tail: &'static [u8],
    /// What the data comes from.
    upload: Option<Upload>,
    framing: Framing,
    /// Whether TLS may hold something back.
    unflushed: bool,
    /// Whether a byte of this request went out.
    pub(super) begun: bool,
}

/// Why no more is written.
pub(super) enum Halt {
    /// The connection takes no more.
    Io(io::Error),
    /// The body ended with a fault of its own, or not as it said it would.
    Body(Box<Fault>),
}

impl Sending {
    /// Begins with a head and what the body said when it was first asked.
    ///
    /// # Errors
    /// The body is not as long as it said.
    pub(super) fn new(
        head: impl FnOnce(&mut Vec<u8>),
        framing: Framing,
        first: Poll<Option<Frame<Bytes>>>,
        upload: Upload,
    ) -> Result<Self, Box<Fault>> {
        let mut lead = LEAD.take();
        head(&mut lead);
        let upload = (framing != Framing::Nothing).then_some(upload);
        let mut sending = Sending { lead, framing, upload, ..Sending::default() };
        match first {
            Poll::Ready(Some(frame)) => sending.stage(frame)?,
            Poll::Ready(None) => sending.end()?,
            Poll::Pending => {}
        }
        Ok(sending)
    }

    /// Whether everything is written.
    pub(super) fn is_over(&self) -> bool {
        self.upload.is_none() && self.is_written() && !self.unflushed
    }

    fn is_written(&self) -> bool {
        self.written == self.lead.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Writes on until all is written, or the socket or the body has to be waited for.
    pub(super) fn poll(&mut self, socket: &mut Socket, context: &mut Context<'_>) -> Poll<Result<(), Halt>> {
        loop {
            while !self.is_written() {
                let written = ready!(self.poll_write(socket, context)).map_err(Halt::Io)?;
                if written == 0 {
                    return Poll::Ready(Err(Halt::Io(io::ErrorKind::WriteZero.into())));
                }
                self.begun = true;
                self.unflushed = true;
                self.pass(written);
            }
            self.put_lead_back();
            // While TLS holds something back, the body is not asked for more.
            if self.unflushed {
                ready!(Pin::new(&mut *socket).poll_flush(context)).map_err(Halt::Io)?;
                self.unflushed = false;
            }
            let Some(upload) = &mut self.upload else { return Poll::Ready(Ok(())) };
            match ready!(Pin::new(&mut *upload).poll_frame(context)) {
                Some(Ok(frame)) => self.stage(frame).map_err(Halt::Body)?,
                Some(Err(Broken)) => return Poll::Ready(Err(Halt::Body(upload.take_fault()))),
                None => self.end().map_err(Halt::Body)?,
            }
        }
    }

    fn poll_write(&self, socket: &mut Socket, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let lead = &self.lead[self.written..];
        if self.data.is_empty() && self.tail.is_empty() {
            return Pin::new(socket).poll_write(context, lead);
        }
        let slices = [IoSlice::new(lead), IoSlice::new(&self.data), IoSlice::new(self.tail)];
        Pin::new(socket).poll_write_vectored(context, &slices)
    }

    fn pass(&mut self, mut written: usize) {
        let of_lead = written.min(self.lead.len() - self.written);
        self.written += of_lead;
        written -= of_lead;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        self.tail = &self.tail[written - of_data..];
    }

    /// The core's buffer goes back as soon as it is written out.
    fn put_lead_back(&mut self) {
        if self.lead.capacity() > 0 {
            let mut lead = std::mem::take(&mut self.lead);
            self.written = 0;
            if lead.capacity() <= LEAD_BYTES {
                lead.clear();
                LEAD.set(lead);
            }
        }
    }

    /// Frames a piece of the body.
    fn stage(&mut self, frame: Frame<Bytes>) -> Result<(), Box<Fault>> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                return match frame.into_trailers() {
                    Ok(trailers) => self.end_with(&trailers),
                    Err(_) => Ok(()),
                };
            }
        };
        if data.is_empty() {
            // A chunk of no bytes would be the last.
            return Ok(());
        }
        match &mut self.framing {
            Framing::Nothing => return Err(wrong_length()),
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or_else(wrong_length)?;
            }
            Framing::Open => {
                self.fetch_lead();
                // A vector takes whatever is written.
                let _ = write!(self.lead, "{:x}\r\n", data.len());
                let last = self.upload.as_ref().is_some_and(Upload::is_end_stream);
                self.tail = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            }
        }
        self.data = data;
        if self.upload.as_ref().is_some_and(Upload::is_end_stream) {
            self.upload = None;
            return self.check_length();
        }
        Ok(())
    }

    /// The body has ended.
    fn end(&mut self) -> Result<(), Box<Fault>> {
        self.end_with(&HeaderMap::new())
    }

    /// Trailers are written where there are chunks, and dropped where there are none (RFC 9110 section 6.5.1).
    fn end_with(&mut self, trailers: &HeaderMap) -> Result<(), Box<Fault>> {
        self.upload = None;
        if self.framing == Framing::Open {
            self.fetch_lead();
            self.lead.extend_from_slice(b"0\r\n");
            for (name, value) in trailers {
                if !is_of_connection(name) {
                    field::write(&mut self.lead, name, value);
                }
            }
            self.lead.extend_from_slice(b"\r\n");
        }
        self.check_length()
    }

    fn check_length(&self) -> Result<(), Box<Fault>> {
        match self.framing {
            Framing::Length(1..) => Err(wrong_length()),
            _ => Ok(()),
        }
    }

    /// The core's buffer, unless a head still to be written is in hand.
    fn fetch_lead(&mut self) {
        if self.lead.capacity() == 0 {
            self.lead = LEAD.take();
        }
    }

    /// The body, if nothing of the request was written and none of it is lost.
    pub(super) fn take_back(self) -> Option<Body> {
        match (self.upload, self.data.is_empty()) {
            (None, false) => Some(Body::Full(self.data)),
            (Some(upload), true) => Some(upload.into_body()),
            (Some(upload), false) => {
                Some(Body::wrap(Resumed::new(Frame::data(self.data), upload.into_body())))
            }
            // Trailers without data, which were taken already.
            (None, true) if self.framing == Framing::Open => None,
            (None, true) => Some(Body::Empty),
        }
    }
}

/// A body that is not as long as it said; whoever promised the length has gone away or made a mistake.
fn wrong_length() -> Box<Fault> {
    of_request(Fault::new(FaultKind::ClientGone).cause("the request's body is not as long as announced"))
}
