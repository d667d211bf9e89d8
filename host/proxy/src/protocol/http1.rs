//! HTTP/1.1 (RFC 9112) on one connection.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::body::{Body, BodyError};
use crate::listener::door::Generation;
use crate::listener::plane::Plane;
use crate::protocol::activity::{Activity, Switch};
use crate::protocol::connection::Connection;
use crate::protocol::lifetime::{self, Protocol, UnderWay};
use crate::protocol::service;
use crate::protocol::socket::Transport;
use crate::protocol::wire::Wire;

/// Header fields that hyper has room for without asking the allocator.
const USUAL_FIELDS: usize = 100;

/// Serves requests until the client, an error or a drain ends the connection. `arrived` was read already.
pub(crate) async fn serve<T: Transport>(
    plane: &Plane,
    connection: Rc<Connection>,
    io: T,
    arrived: BytesMut,
    generation: &Arc<Generation>,
) {
    let limits = connection.limits;
    let activity = Arc::new(Activity::new());
    let wire = Wire::http1(io, arrived, limits, activity.clone());
    let service = {
        let (connection, activity) = (connection.clone(), activity.clone());
        service_fn(move |request| answer(connection.clone(), activity.clone(), request))
    };
    let mut builder = Builder::new();
    // Slow heads are the wire's business, which can answer them.
    builder.header_read_timeout(None);
    if limits.headers > USUAL_FIELDS {
        builder.max_headers(limits.headers);
    }
    let http = pin!(builder.serve_connection(TokioIo::new(wire), service).with_upgrades());
    if !lifetime::drive(http, &connection, generation, &*activity).await && activity.is_busy() {
        activity.abort();
        plane.cut.fetch_add(1, Ordering::AcqRel);
    }
}

/// Not an `async fn`: what the wire has to say about this request must be taken before the wire reads the next one.
fn answer(
    connection: Rc<Connection>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Outgoing>, Infallible>> {
    let verdict = activity.begin();
    let guard = Guard { activity, failed: false };
    async move {
        let response = match verdict {
            Some(fault) => service::refuse(&connection, Version::HTTP_11, fault),
            None => service::answer(connection, request).await,
        };
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        guard.activity.decide(if switched { Switch::Tunnel } else { Switch::Declined });
        Ok(response.map(|body| Outgoing { body, guard }))
    }
}

impl<T, S> Protocol for UpgradeableConnection<T, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = Outgoing>,
    S::Error: Into<BodyError>,
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        UpgradeableConnection::graceful_shutdown(self);
    }
}

impl UnderWay for Activity {
    fn has_begun(&self) -> bool {
        self.is_reading_head()
    }

    fn is_fresh(&self) -> bool {
        Activity::is_fresh(self)
    }

    fn can_be_told(&self) -> bool {
        self.is_busy()
    }
}

/// A response body on its last step: tells the wire when the answer is over.
struct Outgoing {
    body: Body,
    guard: Guard,
}

/// Ends the request when the body is dropped, however that comes.
struct Guard {
    activity: Arc<Activity>,
    failed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.activity.end(!self.failed);
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(context);
        this.guard.failed |= matches!(frame, Poll::Ready(Some(Err(_))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
