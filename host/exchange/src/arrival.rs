//! How a request arrives, whatever brought it: a connection, a message of a broker, or a test.
//!
//! An [`Ingress`] is shared by all requests that come the same way, for example over one connection. An
//! [`Arrival`] belongs to one request. Neither knows a socket, so any source of requests can use the walk.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::{HeaderValue, Request, Version};
use witgate_config::model::Limits;

use crate::authority::{self, Authority};
use crate::fault::{Fault, FaultKind};
use crate::head::{ClientCertificate, Scheme};
use crate::informational::Informational;

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

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address.
    pub address: SocketAddr,
    /// The address without the port, as a field value; an IPv4-mapped address as the IPv4 address.
    pub text: HeaderValue,
}

impl Peer {
    /// The peer at this address.
    pub fn new(address: SocketAddr) -> Self {
        let text = HeaderValue::from_str(&address.ip().to_canonical().to_string());
        Peer { address, text: text.expect("an address is digits and punctuation") }
    }
}

/// The address that is used where there is no peer.
const NO_PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Why the gateway cuts a connection with requests in progress: the kind of fault, and what the log says.
pub type Cut = (FaultKind, &'static str);

/// A way by which requests come in.
pub struct Ingress {
    /// What brings the requests.
    pub source: Source,
    /// Name of the listener, whose routes the requests take.
    pub listener: Arc<str>,
    /// The peer; `None` if the requests do not come over a connection.
    pub peer: Option<Peer>,
    /// The scheme: `https` over TLS.
    pub scheme: Scheme,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The limits of the listener.
    pub limits: Limits,
    /// The last `Host` or `:authority` and the authority that it was normalised to. It is kept because most
    /// clients repeat the field with every request.
    last_authority: RefCell<Option<(Box<[u8]>, Authority)>>,
    /// Why the gateway has cut it while requests were in progress; `None` if it has not.
    cut: Cell<Option<Cut>>,
}

impl Ingress {
    /// An ingress without TLS.
    pub fn new(source: Source, listener: Arc<str>, peer: Option<SocketAddr>, limits: Limits) -> Self {
        Ingress {
            source,
            listener,
            peer: peer.map(Peer::new),
            scheme: Scheme::Http,
            certificate: None,
            limits,
            last_authority: RefCell::new(None),
            cut: Cell::new(None),
        }
    }

    /// Marks that the gateway cuts it. Requests that end from now on have not lost their client, but end for this reason.
    pub fn cut(&self, why: Cut) {
        self.cut.set(Some(why));
    }

    /// Why the gateway has cut it; `None` if it has not.
    pub fn was_cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// The address of the peer; the unspecified address and port 0 if there is no peer.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer.as_ref().map_or(NO_PEER, |peer| peer.address)
    }

    /// The authority of a request.
    ///
    /// # Errors
    /// As [`authority::of`].
    pub fn authority<B>(&self, request: &Request<B>) -> Result<Authority, Fault> {
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

/// The arrival of one request.
pub struct Arrival {
    /// The ingress by which it came.
    pub ingress: Rc<Ingress>,
    /// The time at which the sender gives the request up. It can only shorten the timeout of the route.
    pub deadline: Option<Instant>,
    /// Called with the outcome of the request.
    pub completion: Completion,
    /// Takes the informational responses that precede the response.
    pub informational: Informational,
}

impl Arrival {
    /// An arrival without a deadline, a completion and a way for informational responses.
    pub fn new(ingress: Rc<Ingress>) -> Self {
        let (completion, informational) = (Completion::default(), Informational::default());
        Arrival { ingress, deadline: None, completion, informational }
    }
}

/// How a request ended. It is known at the last byte of the response, at the end of the tunnel, or when the
/// exchange is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The destination responded, and the sender has the whole response.
    Answered,
    /// The gateway or a plugin responded in place of the destination, and the sender has the whole response.
    Local,
    /// A fault replaced the response, or ended the response or the tunnel too early.
    Fault(FaultKind),
    /// A stage decided that the request is to be dropped. For the sender this counts as served.
    Discarded,
    /// The sender left, or the exchange was dropped, before the end of the response.
    Abandoned,
}

/// Calls a function with the [`Outcome`] of a request, exactly once. If it is dropped before it was called, it
/// calls the function with [`Outcome::Abandoned`]. The default calls nothing and allocates nothing.
#[derive(Default)]
pub struct Completion(Option<Box<dyn FnOnce(Outcome)>>);

impl Completion {
    /// Makes a completion that calls this function.
    pub fn new(tell: impl FnOnce(Outcome) + 'static) -> Self {
        Completion(Some(Box::new(tell)))
    }

    /// Calls the function with the outcome.
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
