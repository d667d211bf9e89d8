//! What has to be done for upstreams though no request asks for it, on a thread of its own: one for the process, so that
//! nothing depends on the number of cores, and a busy core delays nothing.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use super::health::checks::Checks;
use crate::balancer::clock;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// How often it looks around.
const ROUND: Duration = Duration::from_millis(50);

/// The running keeper; it ends when this is dropped.
pub(crate) struct Keeper {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts it. It follows the snapshots as they are swapped.
    ///
    /// # Errors
    /// The system gives no thread, or no epoll descriptor.
    pub(crate) fn start(snapshots: Arc<ArcSwap<Snapshot>>, telemetry: Arc<Telemetry>) -> io::Result<Keeper> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("witgate-keeper".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = keep(&snapshots, &telemetry) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It never panics on purpose; if it did, the log has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn keep(snapshots: &ArcSwap<Snapshot>, telemetry: &Telemetry) {
    let mut checks = Checks::default();
    let mut round = interval(ROUND);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        let snapshot = snapshots.load_full();
        checks.follow(&snapshot);
        let now = Instant::now();
        for upstream in snapshot.upstreams.values() {
            upstream.review_ejections(now);
            upstream.refresh(clock::now());
            upstream.note_calm();
        }
        say_events(&snapshot, telemetry);
    }
}

fn say_events(snapshot: &Snapshot, telemetry: &Telemetry) {
    for upstream in snapshot.upstreams.values() {
        for event in upstream.events.say() {
            let endpoint = event.endpoint.as_deref().unwrap_or("-");
            telemetry.log(
                event.kind.level(),
                "an upstream has changed",
                &[
                    ("upstream", &upstream.name),
                    ("endpoint", &endpoint),
                    ("event", &event.kind.as_str()),
                    ("why", &event.why),
                ],
            );
        }
    }
}
