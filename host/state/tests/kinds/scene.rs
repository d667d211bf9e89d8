//! What the tests of all kinds use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use witgate_config::Settings;
use witgate_config::model::Secret;
use witgate_exchange::contracts::counter::{BucketStates, Counter, Draw, Rate};
use witgate_exchange::contracts::state::{BuildContext, Kind, State};
use witgate_tests::{DEADLINE, pause};

/// A state that serves.
pub(crate) fn build(kind: &Kind, settings: &Value, secrets: &[Secret]) -> Result<Arc<dyn State>, String> {
    let settings = Settings::unwritten("state.s", settings.as_object().cloned().expect("a table"));
    (kind.build)(
        &settings,
        BuildContext { secrets, serving: true, memory: witgate_proxy::state::memory::empty },
    )
    .map_err(|problems| {
        problems.iter().map(|problem| format!("{}: {}\n", problem.key, problem.message)).collect()
    })
}

/// Waits until a condition holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for: {what}");
        pause();
    }
}

/// Runs a future on a runtime of its own, as a core would.
pub(crate) fn on_a_core<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// A draw from a bucket with a limit by the hour: nothing that matters flows back during a test.
pub(crate) fn draw(bucket: u128, cost: u32, limit: u32) -> Draw {
    let rate = Rate::of(limit, Duration::from_secs(3600), limit).expect("a limit that can be counted");
    Draw { bucket: bucket << 64 | bucket, policy: 1, cost, rate }
}

/// Whether all draws are within their limits.
pub(crate) async fn admits(counter: &dyn Counter, draws: &[Draw]) -> bool {
    all_admitted(&counter.charge(draws).await.expect("the state is whole"))
}

/// Whether none was refused.
pub(crate) fn all_admitted(states: &BucketStates) -> bool {
    states.as_slice().iter().all(|state| state.admitted)
}

/// How many of so many single draws are admitted when several threads, each with a runtime of its own as the cores of
/// several gateways have, draw at once.
pub(crate) fn admitted_by_many(counters: &[Arc<dyn Counter>], draw: Draw, each: usize) -> usize {
    std::thread::scope(|scope| {
        let hammer = |counter: &Arc<dyn Counter>| {
            let counter = Arc::clone(counter);
            scope.spawn(move || {
                on_a_core(async {
                    let mut admitted = 0;
                    for _ in 0..each {
                        admitted += usize::from(admits(counter.as_ref(), &[draw]).await);
                    }
                    admitted
                })
            })
        };
        let threads: Vec<_> = counters.iter().map(hammer).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    })
}
