//! How long a connection lives: its age, its listener's phase, and what a drain may and may not interrupt.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::listener::door::{Generation, Phase};
use crate::protocol::connection::Connection;

/// How often a draining connection looks whether it may close.
const ROUND: Duration = Duration::from_millis(20);

/// How many looks in a row must find it idle.
const QUIET_ROUNDS: u32 = 5;

/// How long a connection that was accepted just before a drain may take to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What is under way on a connection.
pub(crate) trait UnderWay {
    /// Whether closing now would lose something that a client has begun.
    fn has_begun(&self) -> bool;
    /// Whether no request has come yet.
    fn is_fresh(&self) -> bool;
    /// Whether the protocol can be told at once, because it lets what has begun end.
    fn can_be_told(&self) -> bool;
    /// Tells it to close: what is under way ends, nothing new begins.
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
    connection.closing.set(true);
    let begun = Instant::now();
    let told = async {
        // A busy client has its next request on the way: it is answered, with word that it was the last.
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS && !under_way.can_be_told() {
            tokio::time::sleep(ROUND).await;
            quiet = if may_close(under_way, begun) { quiet + 1 } else { 0 };
        }
    };
    tokio::select! {
        biased;
        _ = http.as_mut() => return true,
        () = until(&mut phase, Phase::Cut) => return false,
        () = told => {}
    }
    under_way.end();
    tokio::select! {
        biased;
        _ = http => true,
        () = until(&mut phase, Phase::Cut) => false,
        // A client that neither takes the last bytes nor closes.
        () = under_way.idle_for(connection.limits.body_timeout) => true,
    }
}

/// Until the connection is old enough, or its listener drains.
async fn until_due(connection: &Connection, generation: &Generation, phase: &mut watch::Receiver<Phase>) {
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
async fn until_draining(generation: &Generation, phase: &mut watch::Receiver<Phase>) {
    let mut told = pin!(unconstrained(until(phase, Phase::Draining)));
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
pub(crate) async fn until(phase: &mut watch::Receiver<Phase>, reached: Phase) {
    let _ = phase.wait_for(|phase| *phase >= reached).await;
}

/// Up to a tenth less, so that connections which were opened together do not all come back together.
fn jitter(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 10.0)
}

fn may_close(under_way: &impl UnderWay, since: Instant) -> bool {
    let patient = under_way.is_fresh() && since.elapsed() < FIRST_REQUEST;
    !under_way.has_begun() && !patient
}
