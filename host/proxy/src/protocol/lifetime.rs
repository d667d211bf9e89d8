//! How long a connection lives: its maximal age, the phase of its listener, and what a drain may interrupt.
//!
//! The client of a connection that is to end is told so: over HTTP/1.1 by `Connection: close` on the next
//! response, over HTTP/2 by GOAWAY. An idle connection is not closed at once, because a request may already be on
//! its way. It ends at its `keep_alive` as usual, during a shutdown after `drain_idle`, and in any case when the
//! time of the drain is up.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};
use witgate_exchange::fault::FaultKind;
use witgate_telemetry::request_guard::CUT_BY_DRAIN;

use crate::listener::bound::{DrainPhase, Generation};
use crate::protocol::connection::Connection;

/// The shortest interval between two checks whether a connection is idle.
const ROUND: Duration = Duration::from_millis(20);

/// What a protocol tells about its connection.
pub(crate) trait UnderWay {
    /// Since when nothing that the client began has been in flight; `None` while something is.
    fn idle_since(&self) -> Option<Instant>;
    /// Tells the client that the connection is to end, if the protocol can do so without a response.
    fn tell(&self);
    /// Ends the connection, which is idle.
    fn end(&self);
    /// Waits until nothing has been in flight for `_time`. Never ends for a protocol that has such a timeout
    /// itself.
    fn idle_for(&self, _time: Duration) -> impl Future<Output = ()> {
        std::future::pending()
    }
}

/// Drives a connection to its end. False if it was cut.
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
        () = under_way.idle_for(connection.ingress.limits.keep_alive) => {}
    }
    // Boxed: otherwise every connection in service would reserve memory for its end.
    Box::pin(end(http, connection, generation, under_way)).await
}

/// Drives a connection that takes no further requests to its end. False if it was cut.
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
        () = until(&mut phase, DrainPhase::Cut) => {
            connection.ingress.cut((FaultKind::Draining, CUT_BY_DRAIN));
            return false;
        }
        () = until_given_up(connection, generation, under_way) => {}
        // Reached if a client neither reads the last bytes nor closes.
        () = under_way.idle_for(connection.ingress.limits.body_timeout) => {}
    }
    under_way.end();
    tokio::select! {
        biased;
        () = http => true,
        () = until(&mut phase, DrainPhase::Cut) => {
            connection.ingress.cut((FaultKind::Draining, CUT_BY_DRAIN));
            false
        }
    }
}

/// Waits until the gateway shuts down and nothing has been in flight for `drain_idle`.
async fn until_given_up(connection: &Connection, generation: &Generation, under_way: &impl UnderWay) {
    until(&mut generation.phase(), DrainPhase::Leaving).await;
    let begun = Instant::now();
    let patience = connection.gateway.snapshot().config.gateway.drain_idle;
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

/// Waits until the gateway shuts down and `drain_idle` has passed. For connections that have not yet begun a
/// request.
pub(crate) async fn until_silence_is_over(connection: &Connection, generation: &Generation) {
    until(&mut generation.phase(), DrainPhase::Leaving).await;
    tokio::time::sleep(connection.gateway.snapshot().config.gateway.drain_idle).await;
}

/// Waits until the connection has reached its maximal age, or its listener drains.
async fn until_due(
    connection: &Connection,
    generation: &Generation,
    phase: &mut watch::Receiver<DrainPhase>,
) {
    match connection.ingress.limits.max_connection_age {
        None => until_draining(generation, phase).await,
        Some(age) => tokio::select! {
            biased;
            () = until_draining(generation, phase) => {}
            () = until_past(Instant::now() + jitter(age)) => {}
        },
    }
}

/// Waits until `due`. As in [`until_draining`], the waker is registered once; later polls only read the state of
/// the timer.
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

/// Waits until the listener drains. Polled whenever anything happens on the connection, so the waker is registered
/// with the channel, which locks, only once; later polls read an atomic.
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

/// Waits until a phase is reached. Ready too if the listener is gone.
pub(crate) async fn until(phase: &mut watch::Receiver<DrainPhase>, reached: DrainPhase) {
    let _ = phase.wait_for(|phase| *phase >= reached).await;
}

/// Shortens an age by up to a tenth, so that connections that were opened together do not all reconnect together.
fn jitter(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 10.0)
}
