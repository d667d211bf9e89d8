//! HTTP/1.1 (RFC 9112) on one connection: one future, no task and no lock for a request.
//!
//! | file | what happens there |
//! |---|---|
//! | `wire` | the bytes, and how long everything may take |
//! | `head`, `chunks` | the strict reading of heads and chunked bodies |
//! | `field` | field lines, as both sides read and write them |
//! | `place` | where a walk is kept while it lasts |
//! | [`body`] | request bodies, read when somebody asks for them |
//! | `answer`, `write` | answers |
//!
//! # What was tried, and what it gave
//!
//! Instructions of the whole process in user space for one request (GET of 1 KiB, connections kept on both sides, no
//! access log, hyper towards the upstream), counted by callgrind in November 2026; hyper's server, with a judge of bytes
//! before it, is 1:
//!
//! | step | ratio |
//! |---|---|
//! | this path in hyper's place | 0.97 |
//! | with it: what a connection knows (the peer's text, the last authority) is kept; one look at every field instead of a look for each name that might be there; maps and hashes no larger than needed | 0.77 |
//!
//! So parsing and writing were less than half of what was to be won; most of it was in what the gateway itself did to
//! every head. A walk has its place in memory only while it lasts, so idle connections hold nothing of it.
//!
//! Since then the same on both sides, hyper being gone; what the steps above and [`crate::upstream`]'s own HTTP/1.1 left is 1:
//!
//! | step | ratio |
//! |---|---|
//! | the walk is made where it stays, not moved there: 9 KB less to copy; a deadline borrows the exchange | 0.80 |
//! | heads of answers are read in one piece; series, routers and upstreams are found without hashing names again | 0.75 |
//! | request, head and response stay where they are; the clock is read five times instead of nine | 0.72 |
//! | the usual header names are told by their length | 0.70 |
//!
//! As CPU of the process, kernel included, that took a request from 1.23 to 1.14 times nginx's, in the same rounds. Not
//! taken: yielding before each write, to wake the origin less often (no gain here; where plugins are asked it is done, see
//! the pipeline); jemalloc, the C library's allocator (no gain); one codegen unit and fat LTO (4 % of the instructions,
//! nothing that could be told from noise in CPU). A profile of such loads beside those two is taken, as `witgate-bench` builds it: 0.79 of the instructions, and 1.16 became 1.06 in the same rounds.
//!
//! On another machine (two Intel cores instead of two of AMD) a trained build of the same code cost 1.24 times nginx's: 1.3 times its
//! instructions in user space, but 1.8 times its time there. Some 22 % of that time lay on 140 locked instructions a
//! request, found by counting every executed instruction with callgrind and by sampling. Per request:
//!
//! | step | locked instructions |
//! |---|---|
//! | before | 140 |
//! | the kernel is called as it is ([`crate::tcp`]); the C library locks before and behind each of the four calls | -8 |
//! | cores run local tasks without a `LocalSet`, whose waker is told of each task; timers and idle connections are looked at without registering anew | -12 |
//! | routes, heads and names are borrowed where their `Arc` was cloned; whether anybody wants a log line is a flag, not a handle | -15 |
//! | values that are not passed on, and targets that are in their one form, are not shared | -2 |
//! | counters of a core have one writer ([`crate::telemetry::per_core`]) | -8 |
//! | after | 94 |
//!
//! With it went 7 % of the instructions: names are compared as words, a request is read where it stays, a path is only
//! split where a route asks for segments. Untrained builds of before and after, in the same nine rounds there: 1.36 and
//! 1.28 times nginx's, time in user space 0.89. What is left is tokio's (28: waking a task, a mutex for each wait on a
//! socket), `Bytes` (29), and `Arc`s (31). Trained builds of before and after could not be told apart by their CPU there in seven
//! rounds (1.22 and 1.22).
//!
//! What told them apart from nginx was found in the caches, simulated by cachegrind (first level: 32 KiB for instructions, 48 KiB
//! for data; 64 connections): a request missed them 1,660 and 450 times, nginx's 730 and 207 times. Of the 24,700 instructions of
//! a request 15,000 are different ones, in 1,600 cache lines: the way is long and straight, and every one of its steps is
//! inlined wherever it is taken. What was tried against that, trained builds:
//!
//! | change | misses, instructions | CPU |
//! |---|---|---|
//! | the program is arranged behind the linker, see `arranged` in `witgate-bench` | 1,470 | 0.85 in user space; 1.17 became 1.14 times nginx's, with tokens seen before 1.53 became 1.47 |
//! | functions are split into hot and cold parts by the compiler | 1,700 | none that could be told |
//! | what is hot is inlined up to the size that other code has to keep to (225, not 3,000) | 1,690 | none |
//! | compiled for AVX2 (`x86-64-v3`): 0.95 of the instructions | 1,660 | none |
//! | what is done to every field stands in one place; values are checked by words, a turn reads the clock once: 0.96 of the instructions | 1,480 | 1.18 became 1.12 times nginx's |
//! | with it, arranged | 1,330 | 1.07 and 1.17 in two runs of nine and seven rounds, beside 1.18 and 1.19 |
//! | the answer has one place from the endpoint to the client | 1,310, for data 545 | taken back |
//!
//! Then against the misses for data, and frames of futures whose states and copies are most of both. Untrained builds, per
//! request; CPU of the first, third and fourth in the same seven rounds, of the last two in another seven:
//!
//! | step | instructions | misses, instructions | data | times nginx's CPU |
//! |---|---|---|---|---|
//! | before | 30,700 | 2,250 | 512 | 1.41 |
//! | an answer is filled where it stays in the walk, through fewer frames; fallbacks and guards are boxed; the walk (4.8 KB, now 3.8) has a place that was used a moment ago ([`place`]) | 29,300 | 2,160 | 426 | |
//! | a map of headers is no larger than its message, which was one field past what the allocator has at hand | 29,070 | 2,140 | 411 | 1.32 |
//! | the allocator is not told alignments that every block has | 28,810 | 2,150 | 394 | 1.28, again 1.30 |
//! | attempts and exchanges are no frames of their own; maps serve one message after the other | 28,180 | 2,065 | 372 | 1.26 |
//!
//! Trained and arranged, before and after all of it: 23,600 and 21,070 instructions, 1,330 and 1,010 misses for them, 449 and
//! 322 for data; 1.08 and 1.03 times nginx's CPU in the same nine rounds, 0.77 of the time in user space.
//!
//! No gain: the hot code on huge pages (llvm-bolt's `-hugify`, sixteen rounds), or the heap. A turn given up by every
//! request before it is forwarded: 1.00, and 1.12 of HTTP/2's (21 and 7 rounds); by every answer before it is written: 0.98
//! without plugins (21 rounds, too little to tell), 1.02 with them.

mod answer;
pub mod body;
pub(crate) mod chunks;
pub(crate) mod field;
pub(crate) mod head;
mod place;
#[cfg(test)]
mod tests;
mod wire;
pub(crate) mod write;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::BytesMut;
use http::{Request, Response, Version};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::answer::Sent;
use self::body::RequestBody;
use self::head::ConnectionOptions;
use self::place::Placed;
use self::wire::{Next, Wire};
use crate::body::Body;
use crate::listener::bound::Generation;
use crate::listener::data_plane::CoreShared;
use crate::protocol::connection::Connection;
use crate::protocol::lifetime::{self, UnderWay};
use crate::protocol::socket::Transport;
use crate::protocol::upgrade::Side;
use crate::protocol::{maps, service};
use crate::turn;

/// How a request is answered whose head was refused.
const REFUSED: ConnectionOptions = ConnectionOptions {
    version: Version::HTTP_11,
    keep_alive: false,
    upgrade: false,
    expects_continue: false,
    trailers: false,
    is_head: false,
};

/// Serves requests until the client, an error or a drain ends the connection. `arrived` was read already.
///
/// Not an `async fn`: its future would keep room for the stream it is given, beside the place the stream moves to.
pub(crate) fn serve<T: Transport>(
    plane: &CoreShared,
    connection: Rc<Connection>,
    io: T,
    arrived: BytesMut,
    generation: &Arc<Generation>,
) -> impl Future<Output = ()> {
    let wire = Rc::new(RefCell::new(Wire::new(io, arrived, connection.limits, connection.half_close)));
    async move {
        let mut requests = Box::pin(run(connection.clone(), wire.clone()));
        if !lifetime::drive(requests.as_mut(), &connection, generation, &*wire).await && wire.borrow().busy {
            wire.borrow().reset();
            plane.cut.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// One request after the other.
async fn run<T: Transport>(connection: Rc<Connection>, wire: Rc<RefCell<Wire<T>>>) {
    loop {
        let mut request = Request::new(Body::Empty);
        let next = poll_fn(|context| wire.borrow_mut().poll_next(&mut request, context));
        let Ok(next) = next.await else { return };
        let (sent, promise) = match next {
            Next::End => break,
            Next::Refused(fault) => {
                let mut response = service::refuse(&connection, Version::HTTP_11, fault);
                (answer::send(&wire, &mut response, &REFUSED, true).await, None)
            }
            Next::Request(options) => {
                *request.body_mut() = RequestBody::of(&wire).map_or(Body::Empty, Body::Http1);
                let (promise, side) = options.upgrade.then(oneshot::channel).unzip();
                let side = side.map(Side::Promised);
                let Some(mut response) = answered(&connection, &wire, &mut request, side).await else {
                    return;
                };
                let sent = answer::send(&wire, &mut response, &options, connection.is_closing()).await;
                maps::give_back(std::mem::take(response.headers_mut()));
                (sent, promise)
            }
        };
        match sent {
            Sent::Kept => {}
            Sent::Last => break,
            // A client that only sends no more must not take what it has for the whole.
            Sent::Gone | Sent::Broken => return wire.borrow().reset(),
            Sent::Switched => {
                // A tunnel that is gone has no use for it, and drops it.
                if let (Some(promise), Some(stream)) = (promise, wire.borrow_mut().switch()) {
                    let _ = promise.send(stream);
                }
                return;
            }
        }
        wire.borrow_mut().end_request();
        if !drained(&wire).await {
            break;
        }
    }
    wire.borrow_mut().end_request();
    let mut lingering = None;
    poll_fn(|context| wire.borrow_mut().poll_close(context, &mut lingering)).await;
}

/// Takes a request to its answer; none if the client went away meanwhile.
///
/// The walk has a place of its own in memory, given back with its answer: it is large, and most connections are idle. It
/// is made there, not moved there.
async fn answered<T: Transport>(
    connection: &Rc<Connection>,
    wire: &RefCell<Wire<T>>,
    request: &mut Request<Body>,
    side: Option<Side>,
) -> Option<Response<Body>> {
    let mut walk = Placed::new(|| service::answer(connection.clone(), request, side));
    poll_fn(|context| match walk.as_mut().poll(context) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        // Whether the client is still there is asked when the walk waits for something.
        Poll::Pending if turn::is_given_up() => Poll::Pending,
        Poll::Pending => wire.borrow_mut().poll_gone(context).map(|()| None),
    })
    .await
}

/// Reads what is left of a body that nobody read to its end; false if that is not worth it.
async fn drained<T: Transport>(wire: &RefCell<Wire<T>>) -> bool {
    if wire.borrow().inbound.is_done() {
        return true;
    }
    let mut room = wire::SKIPPED_BYTES;
    poll_fn(|context| wire.borrow_mut().poll_skip(context, &mut room)).await
}

impl<T: Transport> UnderWay for RefCell<Wire<T>> {
    fn idle_since(&self) -> Option<Instant> {
        self.borrow().idle_since()
    }

    /// It is told by its next answer.
    fn tell(&self) {}

    fn end(&self) {
        self.borrow_mut().last = true;
    }
}
