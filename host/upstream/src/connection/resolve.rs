//! The addresses of endpoints that have host names.
//!
//! The [keeper](crate::keeper) looks up each name when its endpoint comes into service, and again whenever its
//! addresses are no longer valid. A request reads the addresses that are known; it waits only for the first answer
//! about a name. If a name cannot be looked up any more, the last addresses are used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use witgate_exchange::contracts::discovery::Resolver;
use witgate_exchange::names::Numbered;

use crate::Upstream;
use crate::endpoint::Endpoint;
use crate::set::EndpointSet;

/// The shortest time until a name is looked up again.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest time until a name is looked up again.
const LONGEST: Duration = Duration::from_secs(300);
/// The pause after the first failure. It doubles with each further failure in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The addresses of the host of an endpoint.
#[derive(Debug)]
pub(crate) enum Addresses {
    /// The host is an address.
    One(IpAddr),
    /// The host is a name.
    Named(Named),
}

/// A host name, and what is known about it. Reading it takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Named {
    known: ArcSwap<LookedUp>,
    /// Wakes requests that wait for the first look-up.
    looked_up: Notify,
}

impl Named {
    fn learn(&self, known: LookedUp) {
        self.known.store(Arc::new(known));
        self.looked_up.notify_waiters();
    }
}

/// What is known about a host name.
#[derive(Debug, Clone, Default)]
pub(crate) struct LookedUp {
    /// The addresses, in the order in which they are tried. Empty until the name was looked up with success.
    pub(crate) addresses: Arc<[IpAddr]>,
    /// Why the latest look-up failed. `None` if it did not.
    pub(crate) failure: Option<Arc<str>>,
}

impl Addresses {
    /// Those of a host, which is an address or a name.
    pub(crate) fn of(host: &str) -> Addresses {
        host.parse().map_or_else(|_| Addresses::Named(Named::default()), Addresses::One)
    }

    /// The addresses with a port, in the order in which they should be tried. Waits for the first look-up.
    ///
    /// # Errors
    /// The name could not be looked up so far.
    pub(crate) async fn get(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let named = match self {
            Addresses::One(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Addresses::Named(named) => named,
        };
        let is_known = |known: &LookedUp| !known.addresses.is_empty() || known.failure.is_some();
        let mut known = named.known.load_full();
        while !is_known(&known) {
            let mut next = pin!(named.looked_up.notified());
            // From here on a look-up is noticed; it may have ended before.
            next.as_mut().enable();
            known = named.known.load_full();
            if !is_known(&known) {
                next.await;
                known = named.known.load_full();
            }
        }
        match (&known.failure, known.addresses.is_empty()) {
            (Some(why), true) => Err(io::Error::new(io::ErrorKind::NotFound, why.to_string())),
            _ => Ok(known.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()),
        }
    }

    /// Whether a connection to this address still leads to the host. While no address is known, it does.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        match self {
            Addresses::One(_) => true,
            Addresses::Named(named) => {
                let known = named.known.load();
                known.addresses.is_empty() || known.addresses.contains(&address)
            }
        }
    }

    /// Replaces the addresses, as a look-up does.
    #[cfg(test)]
    pub(crate) fn replace(&self, addresses: Vec<IpAddr>) {
        let Addresses::Named(named) = self else { panic!("the host is an address") };
        named.learn(LookedUp { addresses: addresses.into(), failure: None });
    }

    /// What is known about the name. `None` if the host is an address.
    pub(crate) fn looked_up(&self) -> Option<LookedUp> {
        match self {
            Addresses::One(_) => None,
            Addresses::Named(named) => Some(LookedUp::clone(&named.known.load())),
        }
    }
}

/// The look-ups of the endpoints of one upstream, on the keeper's thread.
pub(crate) struct LookUps {
    resolver: Arc<dyn Resolver>,
    /// The set whose endpoints are looked up.
    following: Weak<EndpointSet>,
    /// By the number of the endpoint.
    running: Numbered<Running>,
}

/// The look-ups of one endpoint. They end when this is dropped.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LookUps {
    /// No look-ups so far.
    pub(crate) fn new(resolver: Arc<dyn Resolver>) -> LookUps {
        LookUps { resolver, following: Weak::new(), running: Numbered::default() }
    }

    /// Follows the set in service: look-ups of new endpoints begin, those of endpoints that have left end.
    pub(crate) fn follow(&mut self, upstream: &Upstream) {
        let set = upstream.set.load();
        if std::ptr::eq(self.following.as_ptr(), Arc::as_ptr(&set)) {
            return;
        }
        self.following = Arc::downgrade(&set);
        let mut before = std::mem::take(&mut self.running);
        let is_named = |endpoint: &&Arc<Endpoint>| matches!(endpoint.addresses, Addresses::Named(_));
        for endpoint in set.members().map(|member| member.endpoint()).filter(is_named) {
            let running = before.remove(&endpoint.id).unwrap_or_else(|| self.start(endpoint));
            self.running.insert(endpoint.id, running);
        }
    }

    fn start(&self, endpoint: &Arc<Endpoint>) -> Running {
        Running(tokio::task::spawn_local(keep_looking_up(endpoint.clone(), self.resolver.clone())))
    }
}

async fn keep_looking_up(endpoint: Arc<Endpoint>, resolver: Arc<dyn Resolver>) {
    let Addresses::Named(named) = &endpoint.addresses else { return };
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = match resolver.resolve(endpoint.host.clone()).await {
            Ok(found) => {
                let addresses: Arc<[IpAddr]> = reachable_first(found.addresses).into();
                named.learn(LookedUp { addresses, failure: None });
                pause = FIRST_PAUSE;
                found.valid_for.clamp(SHORTEST, LONGEST)
            }
            Err(why) => {
                let addresses = named.known.load().addresses.clone();
                named.learn(LookedUp { addresses, failure: Some(why.into()) });
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        // Jitter, so that the gateways of a fleet do not all ask at the same time.
        sleep(wait.mul_f64(1.0 - fastrand::f64() / 10.0)).await;
    }
}

/// Puts addresses first to which this host has a route (RFC 6724 section 5, rule 1). Otherwise the order stays.
fn reachable_first(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_key(|address| !has_route(*address));
    addresses
}

/// Whether the host has a route to an address. Connecting a datagram socket looks for one and sends nothing.
fn has_route(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    // The discard port (RFC 863); any would do.
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}
