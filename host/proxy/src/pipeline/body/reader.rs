//! The body of a request while decisions are made on it.
//!
//! The body is read once, as far as the decisions need it, into the one buffer that retries and mirrors use too, and
//! goes on from its beginning, unchanged. Until the first decision reads it, it is not touched.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::ACCEPT_ENCODING;
use http_body::Body as _;
use http_body_util::BodyExt;
use witgate_exchange::body::Body;
use witgate_exchange::contracts::{BodyContent, BodyForm, Reading};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::replay::ReplayBuffer;
use witgate_exchange::replay::inspect::Unread;
use witgate_exchange::replay::memory::{BodyMemory, Purpose, Reserved};

use super::buffered::out_of_memory;
use super::coding::{Coding, Undecodable};
use super::undecodable::DECODED;
use super::unread;

/// The body of a request, which may be read before it is passed on.
pub(in crate::pipeline) struct BodyReader(State);

enum State {
    Untouched(Body),
    Read(Box<Inspected>),
}

/// A body of which something was read.
struct Inspected {
    buffer: ReplayBuffer,
    /// What was decoded last, and for which reading under which limit on bodies.
    decoded: Option<((Reading, usize), BodyContent, Reserved)>,
}

/// How reading the beginning of a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peeked {
    /// The body has ended.
    Ended,
    /// As much as was wanted is there.
    Enough,
    /// The client sends nothing more for now.
    Paused,
}

/// How long a peek waits for more. A client that waits for the response before it sends more, as in a stream in both
/// directions, would otherwise wait for the decision, which waits for the client.
const PAUSE: Duration = Duration::from_millis(500);

impl BodyReader {
    /// A reader of a body that is not touched until something is read.
    pub(in crate::pipeline) fn new(body: Body) -> Self {
        BodyReader(State::Untouched(body))
    }

    /// The body from its beginning.
    pub(in crate::pipeline) fn into_body(self) -> Body {
        match self.0 {
            State::Untouched(body) => body,
            State::Read(inspected) => inspected.buffer.inspected(),
        }
    }

    /// Reads what a decision reads. A peek that is not complete may be shorter than it could be, because the client has
    /// paused. `limit` is the binding's limit on bodies. All of what is read must arrive within
    /// `patience`: a client that nobody knows yet would otherwise hold the memory for it as long as it likes.
    ///
    /// # Errors
    /// `BodyTooLarge` if the decision reads the whole body and this is longer; `Overloaded` with `Retry-After` if there
    /// is no memory left for bodies; `UnsupportedEncoding` or `BadRequest` if it cannot be decoded; `BodyTimeout` if it
    /// does not come in time; `UpgradeRefused` if a request to switch protocols would have
    /// to be read as a whole; or the error of the body itself.
    pub(in crate::pipeline) async fn read(
        &mut self,
        facts: &Facts,
        memory: &Arc<BodyMemory>,
        (reading, limit): (Reading, usize),
        patience: Duration,
    ) -> Result<BodyContent, Fault> {
        if reading.extent.is_whole() && facts.upgrade.is_some() {
            let why = "what follows the switch of protocols cannot be read as a whole";
            return Err(Fault::new(FaultKind::UpgradeRefused).cause(why));
        }
        let inspected = match &mut self.0 {
            State::Untouched(body) if body.is_end_stream() => {
                return Ok(BodyContent { bytes: Bytes::new(), complete: true });
            }
            State::Untouched(body) => {
                let declared = body.size_hint().lower();
                if reading.extent.is_whole() && declared > reading.extent.bytes() as u64 {
                    return Err(too_large());
                }
                let buffer = ReplayBuffer::for_inspection(std::mem::take(body), memory);
                self.0 = State::Read(Box::new(Inspected { buffer, decoded: None }));
                let State::Read(inspected) = &mut self.0 else { unreachable!("it was set just now") };
                inspected
            }
            State::Read(inspected) => inspected,
        };
        let read = inspected.read(facts, memory, reading, limit);
        let latest = Instant::now() + patience;
        within(facts.deadline().map_or(latest, |deadline| deadline.min(latest)), read).await
    }
}

/// The result of reading, if it is there before the deadline of the request.
async fn within(
    deadline: Instant,
    read: impl Future<Output = Result<BodyContent, Fault>>,
) -> Result<BodyContent, Fault> {
    let late = || {
        Fault::new(FaultKind::BodyTimeout).cause("what a decision reads of the body did not arrive within `body_timeout` and the request's own timeout")
    };
    tokio::time::timeout_at(deadline.into(), read).await.unwrap_or_else(|_| Err(late()))
}

impl Inspected {
    async fn read(
        &mut self,
        facts: &Facts,
        memory: &Arc<BodyMemory>,
        reading: Reading,
        limit: usize,
    ) -> Result<BodyContent, Fault> {
        let most = reading.extent.bytes();
        // One byte more than is shown tells whether the body goes on.
        let complete = if reading.extent.is_whole() {
            if !self.read_until(most.saturating_add(1)).await? || self.buffer.kept() > most {
                return Err(too_large());
            }
            true
        } else {
            self.peek(most.saturating_add(1)).await? == Peeked::Ended
        };
        let coding = match reading.form {
            BodyForm::Raw => Some(Coding::Identity),
            BodyForm::Decoded => Coding::of_message(&facts.head.headers),
        };
        match coding.ok_or_else(unsupported)? {
            Coding::Identity => {
                let bytes = self.buffer.beginning(most);
                let complete = complete && self.buffer.kept() <= most;
                Ok(BodyContent { bytes, complete })
            }
            // An empty body is in no coding, whatever the head declares.
            _ if complete && self.buffer.kept() == 0 => Ok(BodyContent { bytes: Bytes::new(), complete }),
            coding => self.decode(coding, memory, reading, limit, complete).await,
        }
    }

    /// Reads until this number of bytes is kept; returns whether the body has ended.
    async fn read_until(&self, bytes: usize) -> Result<bool, Fault> {
        self.buffer.read_until(bytes).await.map_err(|error| match error {
            Unread::NoMemory => out_of_memory(),
            Unread::Failed(error) => unread(error, false),
        })
    }

    /// Reads until this number of bytes is kept, the body has ended, or nothing more has arrived for [`PAUSE`].
    async fn peek(&self, bytes: usize) -> Result<Peeked, Fault> {
        while self.buffer.kept() < bytes {
            match tokio::time::timeout(PAUSE, self.read_until(self.buffer.kept() + 1)).await {
                Ok(Ok(true)) => return Ok(Peeked::Ended),
                Ok(Ok(false)) => {}
                Ok(Err(fault)) => return Err(fault),
                Err(_elapsed) => return Ok(Peeked::Paused),
            }
        }
        Ok(Peeked::Enough)
    }

    /// Decodes what was received. For a peek, more is received until there is enough decoded, or the client pauses.
    async fn decode(
        &mut self,
        coding: Coding,
        memory: &Arc<BodyMemory>,
        reading: Reading,
        limit: usize,
        mut complete: bool,
    ) -> Result<BodyContent, Fault> {
        let key = (reading, limit);
        if let Some((_, known, _)) = self.decoded.as_ref().filter(|(of, ..)| *of == key) {
            return Ok(known.clone());
        }
        let mut paused = false;
        let most = reading.extent.bytes();
        let mut reserved;
        let content = loop {
            let received = self.buffer.beginning(limit);
            complete = complete && self.buffer.kept() <= limit;
            reserved = Reserved::new(memory.clone());
            let (bytes, over) = undo(coding, received.clone(), most, complete, &reserved).await?;
            if over && reading.extent.is_whole() {
                return Err(too_large());
            }
            if over || complete || paused || received.len() >= limit {
                break BodyContent { bytes, complete: complete && !over };
            }
            match self.peek(received.len().saturating_mul(2).clamp(1, limit)).await? {
                Peeked::Ended => complete = true,
                Peeked::Enough => {}
                Peeked::Paused => paused = true,
            }
        };
        self.decoded = Some((key, content.clone(), reserved));
        Ok(content)
    }
}

/// Decodes at most this many bytes; returns them, and whether there are more. If `received` is not complete, the
/// content may break off where it does. The bytes are counted in `reserved`.
async fn undo(
    coding: Coding,
    received: Bytes,
    most: usize,
    complete: bool,
    reserved: &Reserved,
) -> Result<(Bytes, bool), Fault> {
    let mut content = BytesMut::new();
    let cut_off = Rc::new(Cell::new(false));
    let noted = Rc::clone(&cut_off);
    let mut decoded = coding.undo(Body::from(received), move |reason| match reason {
        Undecodable::Malformed(error) => {
            noted.set(error.kind() == io::ErrorKind::UnexpectedEof);
            damaged(&error)
        }
        Undecodable::TooLarge => too_large().detail("the content is out of proportion to its coded form"),
    });
    while let Some(frame) = decoded.frame().await {
        match frame {
            Ok(frame) => {
                let Some(data) = frame.data_ref() else { continue };
                if !reserved.take(data.len()) {
                    reserved.memory().refuse(Purpose::Plugin);
                    return Err(out_of_memory());
                }
                content.extend_from_slice(data);
                if content.len() > most {
                    content.truncate(most);
                    return Ok((content.freeze(), true));
                }
            }
            Err(_) if !complete && cut_off.get() => break,
            Err(error) => return Err(error.downcast().map_or_else(|error| damaged(&*error), |fault| *fault)),
        }
    }
    Ok((content.freeze(), false))
}

fn too_large() -> Fault {
    Fault::new(FaultKind::BodyTooLarge)
}

/// The fault of a body in a coding that cannot be undone. `Accept-Encoding` says which can (RFC 9110 section 15.5.16).
fn unsupported() -> Fault {
    Fault::new(FaultKind::UnsupportedEncoding).header(ACCEPT_ENCODING, DECODED)
}

fn damaged(error: &dyn Error) -> Fault {
    Fault::new(FaultKind::BadRequest)
        .detail("the body is not in the content coding that its head declares")
        .cause(error.to_string())
}
