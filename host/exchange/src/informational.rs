//! Informational responses (1xx, RFC 9110 section 15.2) on their way to the client, ahead of the final response.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use http::header::LINK;
use http::{HeaderValue, Response};

/// Where the client's protocol takes informational responses.
pub trait Sink {
    /// Takes the head of one, with end-to-end headers only. It is sent once the walk of the request waits.
    fn push(&self, head: Response<()>);
}

/// The most bytes of the heads of all informational responses of one exchange, whichever attempts they come from.
const MOST: usize = 128 * 1024;

/// The way to the client for informational responses; none if its protocol has no such responses. It costs nothing
/// while no origin sends any. A clone is for another exchange.
#[derive(Clone, Default)]
pub struct Informational {
    sink: Option<Rc<dyn Sink>>,
    /// The bytes of the heads so far.
    received: Cell<usize>,
}

/// The informational responses of an exchange are longer than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Informational {
    /// The way to this sink.
    pub fn new(sink: Rc<dyn Sink>) -> Self {
        Informational { sink: Some(sink), received: Cell::new(0) }
    }

    /// Passes one on whose head has so many bytes, with no field but `Link` (RFC 8297). Filters and plugins do not see
    /// informational responses, so nothing that they remove from responses may reach the client by this way.
    ///
    /// # Errors
    /// The bytes of all of them together, also of those for a client that gets none, exceed 128 KiB.
    pub fn push(&self, mut head: Response<()>, bytes: usize) -> Result<(), TooLong> {
        self.received.set(self.received.get().saturating_add(bytes));
        if self.received.get() > MOST {
            return Err(TooLong);
        }
        if let Some(sink) = &self.sink {
            let links: Vec<HeaderValue> = head.headers().get_all(LINK).iter().cloned().collect();
            head.headers_mut().clear();
            for link in links {
                head.headers_mut().append(LINK, link);
            }
            sink.push(head);
        }
        Ok(())
    }
}

impl fmt::Debug for Informational {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Informational").field(&self.sink.is_some()).finish()
    }
}
