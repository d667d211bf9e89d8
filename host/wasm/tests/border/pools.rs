//! Instances: reuse, isolation, replacement.

use witgate_exchange::contracts::{Call, CallFailure, RateLimiting as _, Transformation as _};

use crate::scene::{eventually, on_core, probe, request, snapshot, tell, told};

#[test]
fn a_serial_instance_answers_one_call_after_the_other_until_its_uses_are_over() {
    let (_scene, loaded) = probe("instances = { max_uses = 3 }");
    let answers: Vec<String> = on_core(async {
        let mut answers = Vec::new();
        for _ in 0..7 {
            answers.push(told(&loaded, "calls", "").await.unwrap());
        }
        answers
    });
    assert_eq!(answers, ["1", "2", "3", "1", "2", "3", "1"]);
}

#[test]
fn a_fresh_instance_knows_nothing_of_the_request_before() {
    let (_scene, serial) = probe("");
    on_core(async {
        told(&serial, "keep", "canary").await.unwrap();
        assert_eq!(
            told(&serial, "kept", "").await,
            Ok("canary".into()),
            "a serial instance keeps its memory"
        );
    });
    let (_scene, fresh) = probe("instances = { reuse = \"fresh\" }");
    on_core(async {
        for _ in 0..50 {
            told(&fresh, "keep", "canary").await.unwrap();
            assert_eq!(told(&fresh, "kept", "").await, Ok(String::new()));
        }
    });
    eventually("used instances are gone", || fresh.meter().read().live <= 4);
}

#[test]
fn nothing_of_a_request_stays_with_its_instance() {
    let (_scene, loaded) = probe("");
    let head = request(&[("x-do", "look"), ("x-canary", "4d5f")]);
    let snapshot = snapshot();
    on_core(async { loaded.draw(Call { head: &head, fetch: &snapshot }).await.unwrap() });
    assert_eq!(std::sync::Arc::strong_count(&head), 1, "the store let go of the request");
    on_core(async { told(&loaded, "panic", "").await.unwrap_err() });
}

#[test]
fn a_call_whose_answer_is_dropped_leaves_nothing_of_its_request() {
    let (_scene, loaded) = probe("");
    let (head, snapshot) = (request(&[("x-do", "calls")]), snapshot());
    let call = Call { head: &head, fetch: &snapshot };
    on_core(async {
        for _ in 0..10 {
            drop(loaded.draw(call));
            drop(loaded.transform_request(call));
        }
    });
    assert_eq!(std::sync::Arc::strong_count(&head), 1);
    // If an instance is idle, a call is over before it can be dropped: twenty calls were made, and this one.
    assert_eq!(tell(&loaded, "calls", ""), Ok("21".into()), "the instance serves on");
    assert_eq!(loaded.meter().read().live, 2, "one on each of two cores");
}

#[test]
fn pools_are_filled_ahead_of_need_and_after_a_trap() {
    let (_scene, loaded) = probe("instances = { min_idle = 3 }\nquarantine = \"off\"");
    let reading = loaded.meter().read();
    assert_eq!((reading.made, reading.live), (6, 6), "three on each of two cores");
    assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap));
    eventually("the trapped instance is replaced", || {
        let reading = loaded.meter().read();
        (reading.made, reading.live) == (7, 6)
    });
    assert!(reading.memory_high > 64 << 10);
}

#[test]
fn retired_versions_give_their_memory_back() {
    let (scene, first) = probe("");
    let kept = std::sync::Arc::downgrade(&first);
    drop(first);
    assert!(kept.upgrade().is_none());
    for _ in 0..40 {
        let version = scene.bind("probe", "grants.store = [\"space\"]\ninstances.min_idle = 4\nbudget = { cpu = \"300ms\", wall = \"20s\" }").unwrap();
        assert_eq!(tell(&version, "calls", ""), Ok("1".into()));
    }
    let last = scene.bind("probe", "grants.store = [\"space\"]").unwrap();
    eventually("the instances of 40 versions are gone", || last.meter().read().live <= 4);
}
