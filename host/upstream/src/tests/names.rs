//! Names of endpoints whose addresses change while connections are in use.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use witgate_config::model::{Upstream, UpstreamProtocol};
use witgate_exchange::body::Body;

use super::http2::OwnCore;
use super::{get, send, settings, snapshot};
use crate::testing::{self, Snapshot, run};

const OLD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const NEW: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What an origin has seen.
#[derive(Default)]
struct Seen {
    /// The number of its open connections.
    open: Cell<usize>,
    /// The number of POST requests, which get no response before three seconds have passed.
    posts: Cell<usize>,
}

/// An origin at this address that responds with the address. Returns its port.
async fn origin(address: IpAddr, port: u16) -> (u16, Rc<Seen>) {
    let listener = TcpListener::bind((address, port)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Rc::<Seen>::default();
    let counted = seen.clone();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = counted.clone();
            seen.open.set(seen.open.get() + 1);
            tokio::task::spawn_local(async move {
                let noted = seen.clone();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let seen = noted.clone();
                    async move {
                        if request.method() == Method::POST {
                            seen.posts.set(seen.posts.get() + 1);
                            tokio::time::sleep(Duration::from_secs(3)).await;
                        }
                        Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::from(
                            address.to_string(),
                        )))
                    }
                });
                let serving = hyper_util::server::conn::auto::Builder::new(OwnCore);
                let _ = serving.serve_connection(TokioIo::new(stream), answer).await;
                seen.open.set(seen.open.get() - 1);
            });
        }
    });
    (port, seen)
}

/// An upstream whose only endpoint has a name, with the old address.
fn named(port: u16, protocol: UpstreamProtocol) -> Arc<Snapshot> {
    let mut upstream = Upstream { protocol, ..settings(&[(OLD, port).into()]) };
    upstream.endpoints[0].host = "moving.test".into();
    let snapshot = snapshot(upstream);
    look_up(&snapshot, &[OLD]);
    snapshot
}

/// Gives the name these addresses, as a look-up does.
fn look_up(snapshot: &Snapshot, addresses: &[IpAddr]) {
    snapshot.upstreams["origin"].endpoint(0).addresses.replace(addresses.to_vec());
}

#[test]
fn connections_that_are_never_idle_leave_an_address_that_the_name_no_longer_has() {
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        run(async {
            let (port, old) = origin(OLD, 0).await;
            let (_, new) = origin(NEW, port).await;
            let snapshot = named(port, protocol);
            assert_eq!(get(&snapshot).await.unwrap(), "127.0.0.1");
            // A request in progress when the name moves ends as it began.
            let slow = {
                let snapshot = snapshot.clone();
                tokio::task::spawn_local(async move {
                    let response = send(&snapshot, Method::POST, Body::Empty).await.unwrap();
                    testing::bytes(response.into_body()).await.unwrap()
                })
            };
            while old.posts.get() == 0 {
                tokio::task::yield_now().await;
            }
            look_up(&snapshot, &[NEW]);
            let moved = Instant::now();
            // Without a pause: the connection is used again at once, and never idle for long.
            while get(&snapshot).await.unwrap() != "127.0.0.2" {
                assert!(moved.elapsed() < Duration::from_secs(10), "{protocol:?}: it did not follow");
            }
            assert_eq!(get(&snapshot).await.unwrap(), "127.0.0.2");
            assert_eq!(slow.await.unwrap(), "127.0.0.1");
            let gone = || old.open.get() == 0;
            let deadline = Instant::now() + Duration::from_secs(5);
            while !gone() {
                assert!(Instant::now() < deadline, "{protocol:?}: connections to the old address stay open");
                get(&snapshot).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(new.open.get() > 0);
        });
    }
}

#[test]
fn a_further_address_of_a_name_closes_no_connection() {
    run(async {
        let (port, old) = origin(OLD, 0).await;
        let (_, _new) = origin(NEW, port).await;
        let snapshot = named(port, UpstreamProtocol::Http1);
        assert_eq!(get(&snapshot).await.unwrap(), "127.0.0.1");
        look_up(&snapshot, &[NEW, OLD]);
        for _ in 0..50 {
            assert_eq!(get(&snapshot).await.unwrap(), "127.0.0.1", "the connection was given up");
        }
        assert_eq!(old.open.get(), 1, "one connection is enough");
    });
}
