//! What every kind of state must do, in one suite that runs on each.
//!
//! A test takes a fresh state. Kinds differ in how long an answer takes and in what outlives the process, not in any of
//! this.

use std::sync::Arc;
use std::time::Duration;

use witgate_exchange::contracts::counter::{BucketState, Counter, Draw, Rate, Settlement};
use witgate_exchange::contracts::state::State;
use witgate_exchange::contracts::store::{KeyStore, PAGE, StoreError};

use crate::scene::{admits, admitted_by_many, all_admitted, draw, on_a_core, wait_for};

const LONG: Option<Duration> = Some(Duration::from_secs(3600));
const SHORT: Option<Duration> = Some(Duration::from_millis(30));

/// All of them. `fresh` makes a state that holds nothing.
pub(crate) fn holds(fresh: impl Fn() -> Arc<dyn State>) {
    let counters: [fn(&Arc<dyn Counter>); 7] = [
        several_buckets_are_charged_all_or_none,
        a_bucket_named_twice_is_charged_twice,
        asking_charges_nothing,
        a_bucket_tells_how_it_stands,
        what_was_drawn_flows_back,
        what_a_draw_has_cost_is_settled,
        many_cores_are_admitted_exactly_the_limit,
    ];
    let state = fresh();
    for test in counters {
        test(&state.counter());
    }
    let stores: [fn(&dyn State); 12] = [
        a_value_is_there_until_it_is_removed,
        a_value_ends_with_its_life,
        a_counter_is_decimal_text,
        a_counter_keeps_the_life_of_its_creation,
        a_swap_needs_the_expected_value,
        a_swap_sets_the_life,
        plugins_and_spaces_and_keys_are_apart,
        a_full_store_refuses_and_gets_room_again,
        increments_of_many_cores_are_all_counted,
        keys_are_listed_by_prefix_page_by_page,
        keys_are_removed_by_prefix,
        a_listing_has_what_stays_although_others_come_and_go,
    ];
    for test in stores {
        test(state.as_ref());
    }
}

#[test]
fn memory() {
    holds(|| Arc::new(witgate_proxy::state::memory::Memory::default()));
}

fn what_a_draw_has_cost_is_settled(counter: &Arc<dyn Counter>) {
    let one = draw(71, 6, 10);
    let stands = || {
        on_a_core(async { counter.charge(&[Draw { cost: 0, ..one }]).await.expect("whole").as_slice()[0] })
    };
    let settle = |units: i64| {
        let Draw { bucket, policy, rate, .. } = one;
        let unit = i64::try_from(rate.unit()).expect("six minutes");
        // On a core, where a counter that waits settles in the background.
        let change = unit.saturating_mul(units);
        let remaining = stands().remaining;
        on_a_core(async {
            counter.settle(vec![Settlement { bucket, policy, rate, change }]);
            for _ in 0..1000 {
                let state: BucketState =
                    counter.charge(&[Draw { cost: 0, ..one }]).await.expect("whole").as_slice()[0];
                if state.remaining != remaining || state.reset > Duration::from_secs(3700) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("it is not settled");
        });
    };
    assert!(on_a_core(admits(counter.as_ref(), &[one])));
    assert_eq!(stands().remaining, 4);
    settle(-2);
    assert_eq!(stands().remaining, 6);
    settle(3);
    assert_eq!(stands().remaining, 3);
    settle(-1000);
    assert_eq!(stands().remaining, 10, "never fuller than full");
    settle(1000);
    let owing = stands();
    let capacity = Duration::from_secs(3600);
    assert_eq!(owing.remaining, 0);
    assert!(owing.reset > capacity * 2 - Duration::from_secs(60) && owing.reset <= capacity * 2, "{owing:?}");
    assert!(
        !on_a_core(admits(counter.as_ref(), &[Draw { cost: 1, ..one }])),
        "what is owed is not forgiven by a draw"
    );
    assert!(stands().reset > capacity, "{:?}", stands());
}

fn several_buckets_are_charged_all_or_none(counter: &Arc<dyn Counter>) {
    on_a_core(async {
        assert!(admits(counter.as_ref(), &[draw(11, 1, 3), draw(12, 1, 2)]).await);
        assert!(admits(counter.as_ref(), &[draw(11, 1, 3), draw(12, 1, 2)]).await);
        let states = counter.charge(&[draw(11, 1, 3), draw(12, 1, 2)]).await.expect("whole");
        let [first, second] = states.as_slice() else { panic!("two draws have two states") };
        assert!(first.admitted && !second.admitted, "each state is about its own draw: {states:?}");
        assert_eq!((first.remaining, second.remaining), (1, 0), "nothing was charged");
        assert!(admits(counter.as_ref(), &[draw(11, 1, 3)]).await, "nothing was charged");
        assert!(!admits(counter.as_ref(), &[draw(11, 1, 3)]).await);
    });
}

fn a_bucket_named_twice_is_charged_twice(counter: &Arc<dyn Counter>) {
    on_a_core(async {
        assert!(!admits(counter.as_ref(), &[draw(21, 2, 3), draw(21, 2, 3)]).await);
        assert!(admits(counter.as_ref(), &[draw(21, 1, 3), draw(21, 2, 3)]).await);
        assert!(!admits(counter.as_ref(), &[draw(21, 1, 3)]).await);
    });
}

fn asking_charges_nothing(counter: &Arc<dyn Counter>) {
    on_a_core(async {
        for _ in 0..5 {
            let states = counter.charge(&[draw(31, 0, 2)]).await.expect("whole");
            assert_eq!(states.as_slice()[0].remaining, 2);
        }
        assert!(admits(counter.as_ref(), &[draw(31, 2, 2)]).await);
        let states = counter.charge(&[draw(31, 0, 2)]).await.expect("whole");
        assert!(all_admitted(&states), "asking is always allowed");
        assert_eq!(states.as_slice()[0].remaining, 0);
    });
}

fn a_bucket_tells_how_it_stands(counter: &Arc<dyn Counter>) {
    on_a_core(async {
        let rate = Rate::of(60, Duration::from_secs(3600), 10).expect("a limit");
        let draws = [Draw { bucket: 41 << 64, policy: 1, cost: 4, rate }];
        let state = counter.charge(&draws).await.expect("whole").as_slice()[0];
        assert!(state.admitted);
        assert_eq!((state.remaining, state.retry_after), (6, Duration::ZERO));
        near(state.reset, 240);
        assert!(admits(counter.as_ref(), &draws).await);
        let state = counter.charge(&draws).await.expect("whole").as_slice()[0];
        assert!(!state.admitted);
        assert_eq!(state.remaining, 2);
        near(state.reset, 480);
        near(state.retry_after, 120);
        let never = Draw { cost: 11, bucket: 42 << 64, ..draws[0] };
        assert!(!admits(counter.as_ref(), &[never]).await, "more than the bucket holds");
        let never = Draw { cost: u32::MAX, ..never };
        assert!(!admits(counter.as_ref(), &[never]).await);
    });
}

/// Whether a time is that many seconds, but for how long the test took.
fn near(time: Duration, seconds: u64) {
    let expected = Duration::from_secs(seconds);
    assert!(
        time <= expected && time + Duration::from_secs(30) > expected,
        "{time:?} instead of {expected:?}"
    );
}

fn what_was_drawn_flows_back(counter: &Arc<dyn Counter>) {
    let rate = Rate::of(1, Duration::from_millis(60), 1).expect("a limit");
    let draws = [Draw { bucket: 51 << 64, policy: 1, cost: 1, rate }];
    on_a_core(async { assert!(admits(counter.as_ref(), &draws).await) });
    wait_for("what was drawn to flow back", || on_a_core(admits(counter.as_ref(), &draws)));
}

fn many_cores_are_admitted_exactly_the_limit(counter: &Arc<dyn Counter>) {
    let counters = vec![Arc::clone(counter); 4];
    assert_eq!(admitted_by_many(&counters, draw(61, 1, 100), 40), 100);
}

fn a_value_is_there_until_it_is_removed(state: &dyn State) {
    let store = state.store("values", 1 << 20);
    on_a_core(async {
        assert_eq!(store.get("s", "k").await, Ok(None));
        for value in [&b"one"[..], b"", &[0, 255, b'\n'], &[7; 100_000]] {
            assert_eq!(store.set("s", "k", value.to_vec(), None).await, Ok(()));
            assert_eq!(store.get("s", "k").await, Ok(Some(value.to_vec())));
        }
        assert_eq!(store.remove("s", "k").await, Ok(true));
        assert_eq!(store.remove("s", "k").await, Ok(false));
        assert_eq!(store.get("s", "k").await, Ok(None));
    });
}

fn a_value_ends_with_its_life(state: &dyn State) {
    let store = state.store("lives", 1 << 20);
    on_a_core(async {
        assert_eq!(store.set("s", "now", b"v".to_vec(), Some(Duration::ZERO)).await, Ok(()));
        assert_eq!(store.get("s", "now").await, Ok(None));
        assert_eq!(store.set("s", "soon", b"v".to_vec(), SHORT).await, Ok(()));
        assert_eq!(store.set("s", "later", b"v".to_vec(), SHORT).await, Ok(()));
        assert_eq!(store.set("s", "later", b"w".to_vec(), LONG).await, Ok(()));
    });
    wait_for("a value to end", || on_a_core(store.get("s", "soon")) == Ok(None));
    on_a_core(async {
        assert_eq!(store.get("s", "later").await, Ok(Some(b"w".to_vec())), "the last life counts");
        assert_eq!(store.remove("s", "soon").await, Ok(false));
    });
}

fn a_counter_is_decimal_text(state: &dyn State) {
    let store = state.store("numbers", 1 << 20);
    on_a_core(async {
        assert_eq!(store.increment("s", "n", 5, None).await, Ok(5));
        assert_eq!(store.increment("s", "n", -7, None).await, Ok(-2));
        assert_eq!(store.get("s", "n").await, Ok(Some(b"-2".to_vec())));
        for (text, sum) in [
            ("40", 41),
            ("-1", 0),
            ("+8", 9),
            ("007", 8),
            ("-0", 1),
            ("9007199254740993", 9_007_199_254_740_994),
        ] {
            store.set("s", "n", text.as_bytes().to_vec(), None).await.expect("whole");
            assert_eq!(store.increment("s", "n", 1, None).await, Ok(sum), "{text}");
        }
        let most = i64::MAX.to_string();
        for text in ["many", "", "1.5", " 1", "0x1", most.as_str(), "99999999999999999999999"] {
            store.set("s", "n", text.as_bytes().to_vec(), None).await.expect("whole");
            assert_eq!(store.increment("s", "n", 1, None).await, Err(StoreError::NotANumber), "{text:?}");
            assert_eq!(store.get("s", "n").await, Ok(Some(text.as_bytes().to_vec())), "it stays as it is");
        }
        assert_eq!(store.increment("s", "least", i64::MIN, None).await, Ok(i64::MIN));
        assert_eq!(store.increment("s", "least", -1, None).await, Err(StoreError::NotANumber));
    });
}

fn a_counter_keeps_the_life_of_its_creation(state: &dyn State) {
    let store = state.store("counters", 1 << 20);
    on_a_core(async {
        assert_eq!(store.increment("s", "n", 1, SHORT).await, Ok(1));
        // Whether or not it has ended meanwhile, this does not prolong it.
        store.increment("s", "n", 1, SHORT).await.expect("whole");
        assert_eq!(store.increment("s", "long", 1, LONG).await, Ok(1));
        assert_eq!(store.increment("s", "long", 1, Some(Duration::ZERO)).await, Ok(2));
        assert_eq!(store.increment("s", "long", 1, None).await, Ok(3));
    });
    wait_for("a counter to end", || on_a_core(store.get("s", "n")) == Ok(None));
}

fn a_swap_needs_the_expected_value(state: &dyn State) {
    let store = state.store("swaps", 1 << 20);
    let swap = async |expected: Option<&str>, new: Option<&str>| {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        store.compare_and_swap("s", "k", bytes(expected), bytes(new), None).await
    };
    on_a_core(async {
        assert_eq!(swap(Some("a"), Some("b")).await, Ok(false));
        assert_eq!(swap(None, Some("a")).await, Ok(true));
        assert_eq!(swap(None, Some("b")).await, Ok(false), "there is a value");
        assert_eq!(swap(Some(""), Some("b")).await, Ok(false));
        assert_eq!(swap(Some("a"), Some("")).await, Ok(true));
        assert_eq!(swap(None, Some("b")).await, Ok(false), "an empty value is one");
        assert_eq!(swap(Some(""), None).await, Ok(true));
        assert_eq!(swap(None, None).await, Ok(true));
        assert_eq!(store.get("s", "k").await, Ok(None));
    });
}

fn a_swap_sets_the_life(state: &dyn State) {
    let store = state.store("swapped", 1 << 20);
    on_a_core(async {
        store.set("s", "k", b"a".to_vec(), LONG).await.expect("whole");
        let swapped = store.compare_and_swap("s", "k", Some(b"a".to_vec()), Some(b"b".to_vec()), SHORT);
        assert_eq!(swapped.await, Ok(true));
    });
    wait_for("a swapped value to end", || on_a_core(store.get("s", "k")) == Ok(None));
}

fn plugins_and_spaces_and_keys_are_apart(state: &dyn State) {
    let (store, other) = (state.store("apart", 1 << 20), state.store("apart-too", 1 << 20));
    on_a_core(async {
        store.set("ab", "c", b"1".to_vec(), None).await.expect("whole");
        assert_eq!(store.get("a", "bc").await, Ok(None));
        assert_eq!(other.get("ab", "c").await, Ok(None));
        assert_eq!(other.remove("ab", "c").await, Ok(false));
        assert_eq!(state.store("apart", 1 << 20).get("ab", "c").await, Ok(Some(b"1".to_vec())));
    });
}

fn a_full_store_refuses_and_gets_room_again(state: &dyn State) {
    let store = state.store("full", 4000);
    let value = |bytes: usize| vec![b'x'; bytes];
    on_a_core(async {
        assert_eq!(store.set("s", "large", value(5000), None).await, Err(StoreError::Full));
        assert_eq!(store.set("s", "one", value(2400), None).await, Ok(()));
        assert_eq!(store.set("s", "two", value(2400), None).await, Err(StoreError::Full));
        assert_eq!(
            store.compare_and_swap("s", "two", None, Some(value(2400)), None).await,
            Err(StoreError::Full)
        );
        assert_eq!(store.get("s", "two").await, Ok(None));
        assert_eq!(store.remove("s", "one").await, Ok(true));
        assert_eq!(store.set("s", "two", value(2400), SHORT).await, Ok(()));
    });
    wait_for("what has ended to make room", || {
        on_a_core(store.set("s", "three", value(2400), None)) == Ok(())
    });
    let many = state.store("many", 4000);
    on_a_core(async {
        let mut written = 0;
        while written < 100 && many.set("s", &written.to_string(), Vec::new(), None).await == Ok(()) {
            written += 1;
        }
        assert!(written < 100, "keys count too");
        assert_eq!(many.increment("s", "one more", 1, None).await, Err(StoreError::Full));
    });
}

fn increments_of_many_cores_are_all_counted(state: &dyn State) {
    let store = state.store("increments", 1 << 20);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let store: Arc<dyn KeyStore> = Arc::clone(&store);
            scope.spawn(move || {
                on_a_core(async {
                    for _ in 0..50 {
                        store.increment("s", "n", 1, None).await.expect("whole");
                    }
                });
            });
        }
    });
    assert_eq!(on_a_core(store.increment("s", "n", 0, None)), Ok(200));
}

/// Every key that a listing names, sorted, each once.
async fn listed(store: &dyn KeyStore, space: &str, prefix: &str) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    for _ in 0..10_000 {
        let page = store.list(space, prefix, after).await.expect("whole");
        assert!(page.keys.len() <= PAGE);
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            keys.sort();
            keys.dedup();
            return keys;
        }
    }
    panic!("the listing has no end");
}

fn keys_are_listed_by_prefix_page_by_page(state: &dyn State) {
    let (store, other) = (state.store("listed", 8 << 20), state.store("listed-too", 1 << 20));
    on_a_core(async {
        assert_eq!(listed(store.as_ref(), "s", "").await, [] as [&str; 0]);
        let many: Vec<String> = (0..3000).map(|number| format!("user:{number:04}")).collect();
        for key in &many {
            store.set("s", key, b"v".to_vec(), LONG).await.expect("whole");
        }
        for (space, key) in [
            ("s", "use"),
            ("s", "user"),
            ("s", "group:\u{e4}"),
            ("su", "er:1"),
            ("", "suser:1"),
            ("t", "user:1"),
        ] {
            store.set(space, key, b"v".to_vec(), None).await.expect("whole");
        }
        other.set("s", "user:other", b"v".to_vec(), None).await.expect("whole");
        store.set("s", "user:now", b"v".to_vec(), Some(Duration::ZERO)).await.expect("whole");
        store.increment("s", "user:n", 1, None).await.expect("whole");
        store.compare_and_swap("s", "user:c", None, Some(b"v".to_vec()), None).await.expect("whole");

        let mut expected = many.clone();
        expected.extend(["user:c".to_owned(), "user:n".to_owned()]);
        assert_eq!(listed(store.as_ref(), "s", "user:").await, expected);
        assert_eq!(listed(store.as_ref(), "s", "").await.len(), expected.len() + 3);
        assert_eq!(listed(store.as_ref(), "s", "user:0042").await, ["user:0042"]);
        assert_eq!(listed(store.as_ref(), "s", "group:\u{e4}").await, ["group:\u{e4}"]);
        assert_eq!(listed(store.as_ref(), "s", "none").await, [] as [&str; 0]);
        assert_eq!(listed(store.as_ref(), "su", "").await, ["er:1"]);
        assert_eq!(listed(store.as_ref(), "", "").await, ["suser:1"]);
        assert_eq!(listed(store.as_ref(), "other", "").await, [] as [&str; 0]);
        for after in ["", ".", "x", "99999.", "9.9.9", "-1.0", "0.18446744073709551616"] {
            let page = store
                .list("s", "user:", Some(after.to_owned()))
                .await
                .expect("what nobody told is no failure");
            assert!(page.keys.len() <= PAGE, "{after}");
        }
    });
}

fn keys_are_removed_by_prefix(state: &dyn State) {
    let store = state.store("removed", 8 << 20);
    on_a_core(async {
        for number in 0..300 {
            store.set("s", &format!("a:{number}"), b"v".to_vec(), LONG).await.expect("whole");
        }
        for key in ["a", "b:1"] {
            store.set("s", key, b"v".to_vec(), None).await.expect("whole");
        }
        store.set("t", "a:1", b"v".to_vec(), None).await.expect("whole");
        let (mut removed, mut after) = (0, None);
        loop {
            let page = store.remove_page("s", "a:", after).await.expect("whole");
            removed += page.removed;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(removed, 300);
        assert_eq!(listed(store.as_ref(), "s", "").await, ["a", "b:1"]);
        assert_eq!(store.get("s", "a:7").await, Ok(None));
        assert_eq!(store.get("t", "a:1").await, Ok(Some(b"v".to_vec())));
    });
}

fn a_listing_has_what_stays_although_others_come_and_go(state: &dyn State) {
    let store = state.store("busy", 8 << 20);
    on_a_core(async {
        for number in 0..500 {
            store.set("s", &format!("stays:{number:03}"), b"v".to_vec(), LONG).await.expect("whole");
            store.set("s", &format!("goes:{number:03}"), b"v".to_vec(), LONG).await.expect("whole");
        }
        let (mut keys, mut after, mut number) = (Vec::new(), None, 0);
        loop {
            let page = store.list("s", "stays:", after).await.expect("whole");
            keys.extend(page.keys);
            store.remove("s", &format!("goes:{number:03}")).await.expect("whole");
            store.set("s", &format!("comes:{number:03}"), b"v".to_vec(), LONG).await.expect("whole");
            number += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 500);
    });
}
