//! The HTTP/1.1 client towards endpoints (RFC 9112): one connection, one request at a time.
//!
//! A connection has no task of its own. The task that waits for the response writes the request, reads the head,
//! and takes the body from the socket when it is asked for. So no task wakes another, nothing is passed through a
//! channel, and back-pressure is that of the socket. If the response begins while the request is still being sent,
//! sending continues while the response is read.
//!
//! | module | what it does |
//! |---|---|
//! | `head` | writes the head of a request |
//! | `sending` | writes the request with its body |
//! | `answer` | reads the head of a response strictly |
//! | `content` | takes the body out of its framing |

mod answer;
mod content;
mod head;
mod sending;
#[cfg(test)]
pub(crate) mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::io::poll_read_buf;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::informational::{Informational, TooLong};
use witgate_wire::deadline::Deadline;
use witgate_wire::stream::Stream;

use self::answer::{HeadReader, RequestKind};
use self::content::Content;
pub(crate) use self::head::OfAttempt;
use self::sending::{Halt, Sending};
use super::upload::{Broken, Upload};
use crate::connection::socket::{Opening, Socket};
use crate::core_local::READ_ROOM;
use crate::request::{Framing, UpstreamRequest};
use crate::send::{Ended, SendFailure};

/// The most bytes of one read. The buffer of a core has this size, so a piece of it that is kept holds no more
/// memory than a large piece of a body would hold anyway.
const PIECE: usize = 64 * 1024;
/// If the buffer has less space than this, a new one is allocated.
const LEAST: usize = 8 * 1024;

/// The error for informational responses that are too long, those of earlier attempts included.
const TOO_MANY_INFORMATIONAL: &str = "the informational responses of all attempts are too large";

/// An HTTP/1.1 connection.
pub(crate) struct Http1 {
    socket: Socket,
    /// How often in a row the connection stayed on its core while a request of another core waited.
    pub(crate) overtakes: u32,
    /// Bytes that were read and not used yet. Holds no memory while it is empty.
    arrived: BytesMut,
    sending: Sending,
    /// Why the request could not be sent completely. The endpoint may have responded before it closed the
    /// connection.
    refused: Option<io::Error>,
    reader: HeadReader,
    asked: RequestKind,
    content: Content,
    /// Whether the connection may serve another request after this one (keep-alive).
    persistent: bool,
    /// Wakes the task that waits for the endpoint.
    pub(crate) timer: Deadline,
}

impl Http1 {
    /// Creates a connection over a socket.
    pub(crate) fn new(socket: Socket) -> Box<Self> {
        Box::new(Http1 {
            socket,
            overtakes: 0,
            arrived: BytesMut::new(),
            sending: Sending::default(),
            refused: None,
            reader: HeadReader::default(),
            asked: RequestKind::default(),
            content: Content::Over,
            persistent: true,
            timer: Deadline::default(),
        })
    }

    /// When and to which address it was opened.
    pub(crate) fn opening(&self) -> Opening {
        self.socket.opening()
    }

    /// Whether an idle connection is still open, and nothing has arrived on it.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.persistent && self.socket.is_silent()
    }

    /// Sends a request and waits for the head of its response, for at most `timeout` since the request body last
    /// made progress. The time during which the gateway waits for the next piece of that body does not count. The
    /// body of the response is read by [`Http1::poll_frame`].
    ///
    /// # Errors
    /// Why there is no response. The connection cannot be used any more then.
    pub(crate) fn exchange(
        &mut self,
        order: &UpstreamRequest<'_>,
        attempt: OfAttempt<'_>,
        upload: Upload,
        begun: Instant,
        timeout: Duration,
    ) -> impl Future<Output = Result<Response<()>, SendFailure>> {
        let progress = upload.progress();
        let mut unsent = Some(upload);
        let informational = order.informational;
        // A function that returns a future, rather than an async function, which would add a state machine of its
        // own.
        poll_fn(move |context| {
            if let Some(upload) = unsent.take() {
                self.begin(order, attempt, upload, context)?;
            }
            if let Poll::Ready(answered) = self.poll_head(informational, context) {
                return Poll::Ready(answered);
            }
            let last = match &progress {
                None => begun,
                // The next piece from the client wakes this task. Until then no response is due.
                Some(progress) if progress.is_awaited() => return Poll::Pending,
                Some(progress) => progress.last().max(begun),
            };
            ready!(self.timer.poll((last + timeout).into(), context));
            Poll::Ready(Err(SendFailure::Late))
        })
    }

    /// Prepares a request for sending. What is already available of its body is sent together with the head.
    fn begin(
        &mut self,
        order: &UpstreamRequest<'_>,
        attempt: OfAttempt<'_>,
        mut upload: Upload,
        context: &mut Context<'_>,
    ) -> Result<(), SendFailure> {
        let framing = Framing::of(&upload);
        let first = match framing {
            Framing::Nothing => Poll::Ready(None),
            _ => match Pin::new(&mut upload).poll_frame(context) {
                Poll::Ready(Some(Err(Broken))) => return Err(SendFailure::Upload(upload.take_fault())),
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(frame)),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        };
        let head = |out: &mut Vec<u8>| head::write(out, order, attempt, framing);
        self.sending = Sending::new(head, framing, first, upload).map_err(SendFailure::Upload)?;
        self.refused = None;
        self.reader.restart();
        self.asked = RequestKind {
            head: *order.method == Method::HEAD,
            upgrade: order.upgrade.is_some(),
            response_headers: attempt.response_headers,
        };
        // The connection cannot be reused until the end of the response has come.
        self.persistent = false;
        Ok(())
    }

    fn poll_head(
        &mut self,
        informational: Option<&Informational>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, SendFailure>> {
        self.send_on(context)?;
        loop {
            if !self.arrived.is_empty() {
                let pass_on = |head, bytes| match informational {
                    Some(client) => client.push(head, bytes).map_err(|TooLong| TOO_MANY_INFORMATIONAL),
                    None => Ok(()),
                };
                let read = self.reader.read(&mut self.arrived, self.asked, pass_on).map_err(malformed)?;
                self.let_go();
                if let Some(head) = read {
                    (self.content, self.persistent) = (head.content, head.persistent);
                    return Poll::Ready(Ok(head.response));
                }
            }
            match ready!(self.poll_fill(context)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Err(self.unanswered(None))),
                Err(error) => return Poll::Ready(Err(self.unanswered(Some(error)))),
            }
        }
    }

    /// The next piece of the response body.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.send_on(context) {
            Err(SendFailure::Upload(fault)) => return Poll::Ready(Some(Err(*fault))),
            Err(
                SendFailure::Ended(Ended { fault, .. })
                | SendFailure::Unsent(_, fault)
                | SendFailure::ChecksFailed(fault),
            ) => {
                return Poll::Ready(Some(Err(fault)));
            }
            Err(SendFailure::Late) | Ok(()) => {}
        }
        loop {
            let next = self.content.next(&mut self.arrived);
            self.let_go();
            match next {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.content.is_over() => return Poll::Ready(None),
                Ok(None) => {}
                Err(cause) => return Poll::Ready(Some(Err(malformed(cause)))),
            }
            match ready!(self.poll_fill(context)) {
                Ok(1..) => {}
                Ok(0) if matches!(self.content, Content::UntilClose) => self.content = Content::Over,
                Ok(0) => return Poll::Ready(Some(Err(self.ended(None)))),
                Err(error) => return Poll::Ready(Some(Err(self.ended(Some(error))))),
            }
        }
    }

    /// Whether the whole response was taken.
    pub(crate) fn is_over(&self) -> bool {
        self.content.is_over()
    }

    /// The length of the rest of the body, if it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.content.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Whether the exchange has ended in both directions and nothing follows the response, so that another may
    /// begin.
    pub(crate) fn is_reusable(&mut self) -> bool {
        self.persistent
            && self.content.is_over()
            && self.sending.is_over()
            && self.refused.is_none()
            && self.arrived.is_empty()
            && self.is_alive()
    }

    /// The socket and the bytes already read, after the endpoint has switched protocols. `None` if the request was
    /// not sent completely.
    pub(crate) fn into_switched(self) -> Option<Stream> {
        let sent = self.sending.is_over() && self.refused.is_none();
        sent.then(|| Stream::new(self.socket, self.arrived.freeze()))
    }

    /// Sends as much as the socket takes and the body supplies.
    fn send_on(&mut self, context: &mut Context<'_>) -> Result<(), SendFailure> {
        if self.refused.is_some() || self.sending.is_over() {
            return Ok(());
        }
        match self.sending.poll(&mut self.socket, context) {
            Poll::Pending | Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Halt::Body(fault))) => return Err(SendFailure::Upload(fault)),
            Poll::Ready(Err(Halt::Io(error))) if !self.sending.begun && self.socket.is_plain() => {
                return Err(match std::mem::take(&mut self.sending).take_back() {
                    Some(body) => SendFailure::Unsent(body, reset(&error)),
                    None => SendFailure::from(reset(&error)),
                });
            }
            Poll::Ready(Err(Halt::Io(error))) => self.refused = Some(error),
        }
        Ok(())
    }

    /// Reads from the socket, and appends to what has already arrived.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.socket);
        if !self.arrived.is_empty() {
            self.arrived.reserve(LEAST);
            return poll_read_buf(socket, context, &mut self.arrived);
        }
        let mut room = READ_ROOM.take();
        if room.capacity() < LEAST {
            room.reserve(PIECE);
        }
        let filled = poll_read_buf(socket, context, &mut room);
        if matches!(filled, Poll::Ready(Ok(1..))) {
            self.arrived = room.split();
        }
        READ_ROOM.set(room);
        filled
    }

    /// Releases an empty buffer: even an empty part of the core's buffer would keep all of it.
    fn let_go(&mut self) {
        if self.arrived.is_empty() {
            self.arrived = BytesMut::new();
        }
    }

    /// The connection ended before the response head was complete.
    fn unanswered(&mut self, error: Option<io::Error>) -> SendFailure {
        let silent = !self.reader.has_begun() && self.arrived.is_empty();
        SendFailure::Ended(Ended::with_connection(self.ended(error), silent))
    }

    /// The connection ended in the middle of an exchange.
    fn ended(&mut self, error: Option<io::Error>) -> Fault {
        match self.refused.take().or(error) {
            Some(error) => reset(&error),
            None => Fault::new(FaultKind::UpstreamReset).cause("the connection ended before the answer did"),
        }
    }
}

fn reset(error: &io::Error) -> Fault {
    Fault::new(FaultKind::UpstreamReset).cause(error.to_string())
}

fn malformed(cause: &'static str) -> Fault {
    Fault::new(FaultKind::UpstreamProtocol).cause(cause)
}
