//! How a request arrives, whatever brought it: a connection, a broker's message, a test.
//!
//! An [`Ingress`] is shared by all requests that come the same way, for example over one connection. An [`Arrival`] is one
//! request's own. Neither knows a socket: [`serve`](crate::serve::serve) takes any arrival.

use std::cell::RefCell;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::{HeaderValue, Request, Version};
use witgate_config::model::Limits;

use crate::fault::{Fault, FaultKind};
use crate::head::{ClientCertificate, Scheme};
use crate::protocol::authority::{self, Authority};

/// What brings requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A connection to a listener.
    Tcp,
    /// The messages of a broker.
    Message,
    /// A test.
    Test,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address.
    pub address: SocketAddr,
    /// The address without the port, as headers tell it; of an IPv4-mapped address, the IPv4 address.
    pub(crate) text: HeaderValue,
}

impl Peer {
    /// The peer at this address.
    pub fn new(address: SocketAddr) -> Self {
        let text = HeaderValue::from_str(&address.ip().to_canonical().to_string());
        Peer { address, text: text.expect("an address is digits and punctuation") }
    }
}

/// The address that stands for that of a peer where there is none.
const NO_PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// A way by which requests come in.
pub struct Ingress {
    /// What brings the requests.
    pub source: Source,
    /// Name of the listener, whose routes the requests take.
    pub listener: Arc<str>,
    /// The peer; `None` if the requests do not come over a connection.
    pub peer: Option<Peer>,
    /// Whether they come over TLS.
    pub scheme: Scheme,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The limits of the listener.
    pub limits: Limits,
    /// The last `Host` or `:authority` and its result: most clients repeat it with every request.
    last_authority: RefCell<Option<(Box<[u8]>, Authority)>>,
}

impl Ingress {
    /// A way in without TLS.
    pub fn new(source: Source, listener: Arc<str>, peer: Option<SocketAddr>, limits: Limits) -> Self {
        Ingress {
            source,
            listener,
            peer: peer.map(Peer::new),
            scheme: Scheme::Http,
            certificate: None,
            limits,
            last_authority: RefCell::new(None),
        }
    }

    /// The address of the peer; where there is no peer, the unspecified address and port 0.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer.as_ref().map_or(NO_PEER, |peer| peer.address)
    }

    /// The authority of a request.
    ///
    /// # Errors
    /// As [`authority::of`].
    pub(crate) fn authority<B>(&self, request: &Request<B>) -> Result<Authority, Fault> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let told = match (hosts.next(), hosts.next(), request.uri().authority()) {
            (Some(host), None, None) => host.as_bytes(),
            (None, None, Some(target)) if request.version() == Version::HTTP_2 => target.as_str().as_bytes(),
            _ => return authority::of(request.uri(), request.headers(), request.version()),
        };
        if let Some((known, authority)) = &*self.last_authority.borrow()
            && **known == *told
        {
            return Ok(authority.clone());
        }
        let found = authority::of(request.uri(), request.headers(), request.version())?;
        // The bytes are copied, because the field value would keep the whole head in memory.
        self.last_authority.replace(Some((told.into(), found.clone())));
        Ok(found)
    }
}

/// One request's arrival.
pub struct Arrival {
    /// The way it came.
    pub ingress: Rc<Ingress>,
    /// When whoever sent it gives it up; it can only shorten what the route allows.
    pub deadline: Option<Instant>,
    /// Who is told what became of it.
    pub completion: Completion,
}

impl Arrival {
    /// An arrival without a deadline, of which nobody is told what became of it: that of a connection's requests.
    pub fn new(ingress: Rc<Ingress>) -> Self {
        Arrival { ingress, deadline: None, completion: Completion::default() }
    }
}

/// What became of a request, told once, when nothing more will happen: at the last byte of its response, or at the end of
/// its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The destination answered, and whoever asked has all of it.
    Answered,
    /// The gateway or a plugin answered in place of the destination, and whoever asked has all of it.
    Local,
    /// A fault took the place of the response, or broke off the response or the tunnel.
    Fault(FaultKind),
    /// A stage decided that the request is to be dropped as if it had been served.
    Discarded,
    /// Whoever asked went away, or the exchange vanished, before the response was through.
    Abandoned,
}

/// Whom a request's [`Outcome`] is told, if anybody. It is told exactly once: what was not told when this is dropped was
/// abandoned. Nobody costs nothing.
#[derive(Default)]
pub struct Completion(Option<Box<dyn FnOnce(Outcome)>>);

impl Completion {
    /// Tells the outcome by calling this.
    pub fn new(tell: impl FnOnce(Outcome) + 'static) -> Self {
        Completion(Some(Box::new(tell)))
    }

    /// Tells the outcome.
    pub fn complete(mut self, outcome: Outcome) {
        if let Some(tell) = self.0.take() {
            tell(outcome);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Outcome::Abandoned);
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Completion" } else { "Completion of nobody" })
    }
}
