//! `store` where the plugin's keys are kept somewhere that answers late, or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::counter::Counter;
use witgate_exchange::contracts::state::State;
use witgate_exchange::contracts::store::{KeyStore, Page, RemovedPage, StoreResult};
use witgate_proxy::state::memory::{Memory, MemoryKeys};
use witgate_wasm::{Health, Loaded};

use crate::scene::{Scene, on_core, told};

const GRANT: &str = "grants.store = [\"space\"]";

/// State whose stores answer after a while: keys in memory behind a wait that a test defines.
struct Slow {
    keys: Arc<SlowKeys>,
}

struct SlowKeys {
    memory: MemoryKeys,
    /// None: no answer ever comes.
    after: Option<Duration>,
    /// Questions that are waiting, and the most that waited at once.
    waiting: AtomicUsize,
    most: AtomicUsize,
}

impl Slow {
    fn new(after: Option<Duration>) -> Arc<Slow> {
        let memory = MemoryKeys::new(1 << 20);
        let (waiting, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Slow { keys: Arc::new(SlowKeys { memory, after, waiting, most }) })
    }
}

impl State for Slow {
    fn counter(&self) -> Arc<dyn Counter> {
        Memory::default().counter()
    }

    fn store(&self, _plugin: &str, _bytes: usize) -> Arc<dyn KeyStore> {
        Arc::clone(&self.keys) as _
    }
}

/// A question that is waiting; counted until it is dropped.
struct Waiting<'a>(&'a SlowKeys);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SlowKeys {
    fn later<'a, T: 'a>(
        &'a self,
        ask: impl FnOnce(&'a MemoryKeys) -> StoreResult<'a, T> + 'a,
    ) -> StoreResult<'a, T> {
        MaybeReady::waiting(async move {
            let now = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            let _waiting = Waiting(self);
            match self.after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
            ask(&self.memory).await
        })
    }
}

impl KeyStore for SlowKeys {
    fn waits(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, Option<Vec<u8>>> {
        self.later(|keys| keys.get(space, key))
    }

    fn set<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, ()> {
        self.later(move |keys| keys.set(space, key, value, ttl))
    }

    fn remove<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, bool> {
        self.later(|keys| keys.remove(space, key))
    }

    fn increment<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        by: i64,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, i64> {
        self.later(move |keys| keys.increment(space, key, by, ttl))
    }

    fn list<'a>(&'a self, space: &'a str, prefix: &'a str, after: Option<String>) -> StoreResult<'a, Page> {
        self.later(move |keys| keys.list(space, prefix, after))
    }

    fn remove_page<'a>(
        &'a self,
        space: &'a str,
        prefix: &'a str,
        after: Option<String>,
    ) -> StoreResult<'a, RemovedPage> {
        self.later(move |keys| keys.remove_page(space, prefix, after))
    }

    fn compare_and_swap<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, bool> {
        self.later(move |keys| keys.compare_and_swap(space, key, expected, new, ttl))
    }
}

/// The probe, with a store that answers after so long.
fn probe(after: Option<Duration>, binding: &str) -> (Arc<Slow>, Arc<Loaded>) {
    let state = Slow::new(after);
    let scene = Scene { state: state.clone(), ..Scene::new() };
    let loaded = scene.bind("probe", binding);
    (state, loaded.unwrap_or_else(|refusal| panic!("{refusal}")))
}

#[test]
fn every_function_of_a_store_that_answers_late_answers_as_one_in_memory() {
    let budget = "budget = { cpu = \"300ms\", wall = \"20s\" }";
    let (state, loaded) = probe(Some(Duration::from_millis(5)), &format!("{GRANT}\n{budget}"));
    on_core(async {
        for (asked, answer) in [
            ("get space name", "Ok(None)"),
            ("set space name alice", "Ok(())"),
            ("get space name", "Ok(Some(\"alice\"))"),
            ("get other name", "Err(Error::Denied)"),
            ("increment space hits", "Ok(1)"),
            ("increment space name", "Err(Error::NotANumber)"),
            ("swap space name bob", "Ok(false)"),
            ("swap space free bob", "Ok(true)"),
            ("big space name", "Err(Error::Full)"),
            ("remove space name", "Ok(true)"),
        ] {
            assert_eq!(told(&loaded, "store", asked).await, Ok(answer.to_owned()), "{asked}");
        }
    });
    assert_eq!(state.keys.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn calls_that_wait_for_a_store_share_a_core() {
    let instances = "instances = { max = 4 }\nbudget = { cpu = \"300ms\", wall = \"20s\" }";
    let (state, loaded) = probe(Some(Duration::from_millis(200)), &format!("{GRANT}\n{instances}"));
    on_core(async {
        let calls = (0..4).map(|_| told(&loaded, "store", "increment space hits"));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    });
    assert_eq!(state.keys.most.load(Ordering::Relaxed), 4, "they wait side by side");
}

/// A wait for a store ends before the wall budget does, so that the guest can answer; then its wait was no misbehaviour.
#[test]
fn a_guest_whose_store_never_answers_is_told_in_time_and_is_not_to_blame() {
    for wall in ["200ms", "100ms", "40ms"] {
        // With the quarantine that a binding has by default.
        let (state, loaded) =
            probe(None, &format!("{GRANT}\nbudget = {{ cpu = \"20ms\", wall = \"{wall}\" }}"));
        on_core(async {
            for _ in 0..12 {
                let answer =
                    tokio::time::timeout(Duration::from_secs(10), told(&loaded, "store", "get space name"));
                assert_eq!(answer.await, Ok(Ok("Err(Error::Unavailable)".to_owned())), "of {wall}");
            }
        });
        assert_eq!(loaded.health(), Health::Serving);
        assert_eq!(loaded.meter().read().failures, [0; 9]);
        assert_eq!(state.keys.waiting.load(Ordering::Relaxed), 0, "what was given up is dropped");
    }
}

#[test]
fn a_call_dropped_while_it_waits_for_a_store_gives_back_everything() {
    let binding = format!("{GRANT}\ninstances = {{ max = 2, queue = 2 }}\nbudget.wall = \"20s\"");
    let (state, loaded) = probe(None, &binding);
    on_core(async {
        for _ in 0..20 {
            let waiting = told(&loaded, "store", "get space name");
            assert!(tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err());
        }
        assert_eq!(state.keys.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(loaded.meter().read().abandoned, 20);
        let denied = told(&loaded, "store", "get other name").await;
        assert_eq!(denied, Ok("Err(Error::Denied)".to_owned()), "and the next call is served");
    });
}

#[test]
fn a_plugin_without_a_grant_of_a_space_never_waits() {
    let (state, loaded) = probe(None, "grants.store = []");
    on_core(async {
        let denied = told(&loaded, "store", "get space name").await;
        assert_eq!(denied, Ok("Err(Error::Denied)".to_owned()));
    });
    assert_eq!(state.keys.most.load(Ordering::Relaxed), 0);
}
