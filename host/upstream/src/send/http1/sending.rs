//! Sends a request: its head, and its body piece by piece.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncWrite;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::http1::field;

use crate::connection::socket::Socket;
use crate::core_local::SPARE_HEAD;
use crate::request::{Framing, is_of_connection};
use crate::response::resumed::Resumed;
use crate::send::upload::{Broken, Upload, of_request};

/// The size of the buffer in which heads are written. A buffer that has grown larger is not kept.
const LEAD_BYTES: usize = 16 * 1024;

/// What is still to be written of a request.
#[derive(Default)]
pub(crate) struct Sending {
    /// The bytes before the data: a head, or the size of a chunk.
    lead: Vec<u8>,
    /// The number of bytes of `lead` that are written.
    written: usize,
    data: Bytes,
    /// The bytes after the data.
    tail: &'static [u8],
    /// The source of the data.
    upload: Option<Upload>,
    framing: Framing,
    /// Whether TLS may have buffered bytes.
    unflushed: bool,
    /// Whether a byte of this request was sent.
    pub(crate) begun: bool,
}

/// Why sending has ended early.
pub(crate) enum Halt {
    /// The connection failed.
    Io(io::Error),
    /// The body ended with a fault, or its length differs from the declared one.
    Body(Box<Fault>),
}

impl Sending {
    /// Begins with a head, and with the result of the first poll of the body.
    ///
    /// # Errors
    /// The length of the body differs from the declared one.
    pub(crate) fn new(
        head: impl FnOnce(&mut Vec<u8>),
        framing: Framing,
        first: Poll<Option<Frame<Bytes>>>,
        upload: Upload,
    ) -> Result<Self, Box<Fault>> {
        let mut lead = SPARE_HEAD.take();
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

    /// Whether the whole request is written.
    pub(crate) fn is_over(&self) -> bool {
        self.upload.is_none() && self.is_written() && !self.unflushed
    }

    fn is_written(&self) -> bool {
        self.written == self.lead.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Writes until everything is written, or until the socket or the body is pending.
    pub(crate) fn poll(&mut self, socket: &mut Socket, context: &mut Context<'_>) -> Poll<Result<(), Halt>> {
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
            // The body is not polled while TLS has buffered bytes.
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

    /// Gives the core's buffer back once it is written completely.
    fn put_lead_back(&mut self) {
        if self.lead.capacity() > 0 {
            let mut lead = std::mem::take(&mut self.lead);
            self.written = 0;
            if lead.capacity() <= LEAD_BYTES {
                lead.clear();
                SPARE_HEAD.set(lead);
            }
        }
    }

    /// Adds the framing for a piece of the body.
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
            // An empty chunk would end the body.
            return Ok(());
        }
        match &mut self.framing {
            Framing::Nothing => return Err(wrong_length()),
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or_else(wrong_length)?;
            }
            Framing::Open => {
                self.fetch_lead();
                // Writing to a vector cannot fail.
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

    /// Ends the body. Trailers are written with chunked framing and dropped otherwise (RFC 9110 section 6.5.1).
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

    /// Takes the core's buffer, unless a head that is not written yet is in it.
    fn fetch_lead(&mut self) {
        if self.lead.capacity() == 0 {
            self.lead = SPARE_HEAD.take();
        }
    }

    /// The body, if nothing of the request was written and nothing of the body is lost.
    pub(crate) fn take_back(self) -> Option<Body> {
        match (self.upload, self.data.is_empty()) {
            (None, false) => Some(Body::Full(self.data)),
            (Some(upload), true) => Some(upload.into_body()),
            (Some(upload), false) => {
                Some(Body::wrap(Resumed::new(Frame::data(self.data), upload.into_body())))
            }
            // Trailers without data were already taken.
            (None, true) if self.framing == Framing::Open => None,
            (None, true) => Some(Body::Empty),
        }
    }
}

/// The fault for a body whose length differs from the declared one: the client has gone away or made a mistake.
fn wrong_length() -> Box<Fault> {
    of_request(Fault::new(FaultKind::ClientGone).cause("the request's body is not as long as announced"))
}
