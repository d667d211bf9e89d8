//! The facts of one request: what filters, destinations, faults and the record need to know of it.
//!
//! Facts know no connection, snapshot, route or upstream, so a stage that takes `&mut Facts` can be understood,
//! tested and reused without any of them. What only the data path needs is in the exchange of `host/proxy`.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, Version};

use crate::arrival::Completion;
use crate::body::Body;
use crate::contracts::ResponseOrigin;
use crate::fault::{Dialect, Fault};
use crate::head::RequestHead;
use crate::informational::Informational;
use crate::record::Record;

/// What is known of one request, and what stages have decided about it so far.
#[derive(Debug)]
pub struct Facts {
    /// The head. Plugins hold clones only while they are called, so `Arc::make_mut` does not copy in practice.
    pub head: Arc<RequestHead>,
    /// The head before any stage has changed it, for a destination that keeps responses and must know what the gateway has
    /// changed. `None` for other destinations, and for messages, whose responses nobody shares.
    pub received: Option<Arc<RequestHead>>,
    /// Whether the peer is a trusted proxy (`gateway.trusted_proxies`), whose forwarding headers are believed.
    pub trusted_peer: bool,
    /// When the request head was complete.
    pub begun: Instant,
    /// The shortest of the timeouts of the route and the plugins, counted from [`begun`](Facts::begun).
    pub timeout: Option<Duration>,
    /// The version of HTTP the client spoke.
    pub version: Version,
    /// The protocol that the client asks to switch to (`Upgrade`), if the gateway forwards that.
    pub upgrade: Option<HeaderValue>,
    /// The destination's side of the tunnel, once it has responded with 101.
    pub switched: Option<Switched>,
    /// The name of the upstream to forward to, once it is chosen.
    pub upstream: Option<Arc<str>>,
    /// The key for hashing balancers.
    pub hash_key: Option<Bytes>,
    /// Headers that stages on the way down add to the response, for example rate limits and cookies of
    /// authentication.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// The form in which the client is told of a fault.
    pub dialect: Dialect,
    /// Whether the body is a stream of gRPC messages, and the gateway refuses one that is not. Limits on the body then
    /// hold for each message.
    pub grpc_messages: bool,
    /// Whether the current response was made by the gateway or a plugin.
    pub local_response: bool,
    /// Whether its sender sends it again if it fails, so that nothing between may do so as well.
    pub retried_by_sender: bool,
    /// Whether a stage decided that the request is to be dropped. For its sender this counts as served.
    pub discarded: bool,
    /// Called with the outcome of the request.
    pub completion: Completion,
    /// The way to the client for informational responses.
    pub informational: Informational,
    /// What is noted for the access log, the metrics and the span.
    pub record: Record,
}

impl Facts {
    /// The facts of a request whose head was complete at `begun`, before any stage has seen it.
    pub fn new(head: Arc<RequestHead>, version: Version, begun: Instant) -> Self {
        Facts {
            dialect: Dialect::of(&head, version),
            head,
            received: None,
            trusted_peer: false,
            begun,
            timeout: None,
            version,
            upgrade: None,
            switched: None,
            upstream: None,
            hash_key: None,
            response_headers: Vec::new(),
            grpc_messages: false,
            local_response: false,
            retried_by_sender: false,
            discarded: false,
            completion: Completion::default(),
            informational: Informational::default(),
            record: Record::default(),
        }
    }

    /// Limits the time of the request, counted from [`begun`](Facts::begun). `None` changes nothing.
    pub fn limit_time(&mut self, timeout: Option<Duration>) {
        self.timeout = self.timeout.into_iter().chain(timeout).min();
    }

    /// When the request is given up; `None` if it has no limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.begun + timeout)
    }

    /// Where the current response came from.
    pub fn origin(&self) -> ResponseOrigin {
        let record = &self.record;
        let (upstream, endpoint) = record.endpoint.clone().unzip();
        ResponseOrigin {
            upstream: upstream.or_else(|| self.upstream.clone()),
            endpoint,
            attempts: record.attempts,
            time: record.upstream_time,
            fault: record.fault.as_ref().map(|(kind, _)| *kind),
        }
    }

    /// Turns a fault into the response for the client, in the client's dialect, and notes the fault in the record.
    pub fn fault(&mut self, mut fault: Fault) -> Response<Body> {
        self.local_response = true;
        if let Some(own) = fault.instead.take() {
            return own.map(Body::from);
        }
        self.record.fault = Some((fault.kind, fault.cause.take().map(Cow::into_owned)));
        fault.into_response(self.dialect, &self.head.request_id, &self.head.method)
    }
}

/// The destination's side of a tunnel. Facts know no sockets, so only the destination that made this side and the
/// walk that joins it to the client's side know its type.
pub struct Switched(Box<dyn Any>);

impl Switched {
    /// Wraps a side of a tunnel for the walk.
    pub fn new<T: Any>(side: T) -> Self {
        Switched(Box::new(side))
    }

    /// Returns the side if it has this type.
    pub fn into_side<T: Any>(self) -> Option<T> {
        self.0.downcast().ok().map(|side| *side)
    }
}

impl fmt::Debug for Switched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Switched")
    }
}
