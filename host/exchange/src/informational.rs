//! Informational responses (1xx, RFC 9110 section 15.2) on their way to the client, ahead of the final response.

use std::fmt;
use std::rc::Rc;

use http::header::LINK;
use http::{HeaderValue, Response};

/// Where the client's protocol takes informational responses.
pub trait Sink {
    /// Takes the head of one, with end-to-end headers only. It is sent once the walk of the request waits.
    fn push(&self, head: Response<()>);
}

/// The way to the client for informational responses; none if its protocol has no such responses. It costs nothing
/// while no origin sends any.
#[derive(Clone, Default)]
pub struct Informational(Option<Rc<dyn Sink>>);

impl Informational {
    /// The way to this sink.
    pub fn new(sink: Rc<dyn Sink>) -> Self {
        Informational(Some(sink))
    }

    /// Passes one on, with no field but `Link` (RFC 8297). Filters and plugins do not see informational responses, so
    /// nothing that they remove from responses may reach the client by this way.
    pub fn push(&self, mut head: Response<()>) {
        if let Some(sink) = &self.0 {
            let links: Vec<HeaderValue> = head.headers().get_all(LINK).iter().cloned().collect();
            head.headers_mut().clear();
            for link in links {
                head.headers_mut().append(LINK, link);
            }
            sink.push(head);
        }
    }
}

impl fmt::Debug for Informational {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Informational").field(&self.0.is_some()).finish()
    }
}
