//! How long a connection lives: its age, its listener's phase, and what a drain may and may not interrupt.
//!
//! A connection that is to end is told so: over HTTP/1.1 by `Connection: close` on its next answer, over HTTP/2 by GOAWAY.
//! One that waits for its client's next request is not closed before that, because the request may be on its way. It
//! ends at its `keep_alive` as ever, in a drain after `drain_idle`, and in any case when the time of the drain is up.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::listener::bound::{DrainPhase, Generation};
use crate::protocol::connection::Connection;

/// The least time between two looks at whether a connection is idle.
const ROUND: Duration = Duration::from_millis(20);

/// What is under way on a connection.
pub(crate) trait UnderWay {
    /// Since when nothing that a client has begun has been under way; none while something is.
    fn idle_since(&self) -> Option<Instant>;
    /// Tells the client that the connection is to end, where the protocol can say so without an answer.
    fn tell(&self);
    /// Ends the connection, which is idle.
    fn end(&self);
    /// Until nothing has been under way for so long. For ever, where the protocol's own reading sees to that.
    fn idle_for(&self, _time: Duration) -> impl Future<Output = ()> {
        std::future::pending()
    }
}

/// Drives a connection to its end. False: it was cut.
pub(crate) async fn drive(
    mut http: Pin<&mut impl Future>,
    connection: &Connection,
    generation: &Arc<Generation>,
    under_way: &impl UnderWay,
) -> bool {
    let mut phase = generation.phase();
    tokio::select! {
        biased;
        _ = http.as_mut() => return true,
        () = until_due(connection, generation, &mut phase) => {}
        () = under_way.idle_for(connection.limits.keep_alive) => {}
    }
    // Boxed: a connection in service would have room for it.
    Box::pin(end(http, connection, generation, under_way)).await
}

/// Lets a connection end of which no further requests are wanted. False: it was cut.
async fn end(
    mut http: Pin<&mut impl Future>,
    connection: &Connection,
    generation: &Generation,
    under_way: &impl UnderWay,
) -> bool {
    let mut phase = generation.phase();
    let mut http = pin!(poll_fn(|context| {
        let polled = http.as_mut().poll(context).map(drop);
        connection.count_idle(polled.is_pending() && under_way.idle_since().is_some());
        polled
    }));
    connection.closing.set(true);
    under_way.tell();
    tokio::select! {
        biased;
        () = http.as_mut() => return true,
        () = until(&mut phase, DrainPhase::Cut) => return false,
        () = until_given_up(connection, generation, under_way) => {}
        // A client that neither takes the last bytes nor closes.
        () = under_way.idle_for(connection.limits.body_timeout) => {}
    }
    under_way.end();
    tokio::select! {
        biased;
        () = http => true,
        () = until(&mut phase, DrainPhase::Cut) => false,
    }
}

/// Until the gateway drains and nothing has been under way for as long as a connection may be idle then.
async fn until_given_up(connection: &Connection, generation: &Generation, under_way: &impl UnderWay) {
    until(&mut generation.phase(), DrainPhase::Leaving).await;
    let begun = Instant::now();
    let patience = connection.snapshot().config.gateway.drain_idle;
    loop {
        let due = match under_way.idle_since() {
            Some(since) => since.max(begun) + patience,
            None => Instant::now() + patience.max(ROUND),
        };
        if due <= Instant::now() {
            return;
        }
        sleep_until(due).await;
    }
}

/// Until a connection that is not so far as to ask for anything has had its time in a drain.
pub(crate) async fn until_silence_is_over(connection: &Connection, generation: &Generation) {
    until(&mut generation.phase(), DrainPhase::Leaving).await;
    tokio::time::sleep(connection.snapshot().config.gateway.drain_idle).await;
}

/// Until the connection is old enough, or its listener drains.
async fn until_due(
    connection: &Connection,
    generation: &Generation,
    phase: &mut watch::Receiver<DrainPhase>,
) {
    match connection.limits.max_connection_age {
        None => until_draining(generation, phase).await,
        Some(age) => tokio::select! {
            biased;
            () = until_draining(generation, phase) => {}
            () = until_past(Instant::now() + jitter(age)) => {}
        },
    }
}

/// Until then. Polled as often as [`until_draining`]: the timer is asked once to have the connection woken, and then only
/// looked at.
async fn until_past(due: Instant) {
    let mut timer = pin!(sleep_until(due));
    let mut asked = false;
    poll_fn(|context| {
        if asked && !timer.is_elapsed() {
            return Poll::Pending;
        }
        asked = true;
        timer.as_mut().poll(context)
    })
    .await;
}

/// Polled whenever anything happens on the connection, so the channel, which takes a lock, is asked once to have itself
/// woken, and then only when there is something to hear.
async fn until_draining(generation: &Generation, phase: &mut watch::Receiver<DrainPhase>) {
    let mut told = pin!(unconstrained(until(phase, DrainPhase::Draining)));
    let mut asked = false;
    poll_fn(|context| {
        if asked && !generation.is_draining() {
            return Poll::Pending;
        }
        asked = true;
        told.as_mut().poll(context)
    })
    .await;
}

/// Until a phase is reached; a listener that is gone has reached them all.
pub(crate) async fn until(phase: &mut watch::Receiver<DrainPhase>, reached: DrainPhase) {
    let _ = phase.wait_for(|phase| *phase >= reached).await;
}

/// Up to a tenth less, so that connections which were opened together do not all come back together.
fn jitter(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 10.0)
}
