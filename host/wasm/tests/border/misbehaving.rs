//! Guests that misbehave: each ends with its kind of failure, and the next call is answered.

use std::time::Duration;

use witgate_proxy::pipeline::plugin::{Call, CallFailure, Piece, Plugin};
use witgate_wasm::Health;
use witgate_wasm::meter::FAILURES;

use crate::scene::{
    Scene, authenticate, bytes, eventually, on_core, probe, request, resident, response, snapshot, tell, told,
};

const NO_QUARANTINE: &str = "quarantine.kills = 0\nrevert.calls = 0";

#[test]
fn every_deed_ends_with_its_kind_and_the_next_call_is_answered() {
    // One instance at a time, so that the next call can only be answered by one that was made since.
    let (_scene, loaded) = probe(&format!("{NO_QUARANTINE}\ninstances = {{ min_idle = 1, max = 1 }}"));
    for (deed, failure) in [
        ("panic", CallFailure::Trap),
        ("exit", CallFailure::Trap),
        ("sleep", CallFailure::Trap),
        ("recurse", CallFailure::Trap),
        ("loop", CallFailure::Cpu),
        ("memory", CallFailure::Memory),
        ("host-calls", CallFailure::HostCalls),
        ("storm", CallFailure::HostCalls),
        ("huge", CallFailure::Output),
    ] {
        let before = loaded.meter().read();
        assert_eq!(tell(&loaded, deed, ""), Err(failure), "{deed}");
        assert_eq!(tell(&loaded, "calls", ""), Ok("1".into()), "{deed}: a fresh instance answers");
        let after = loaded.meter().read();
        let kind = FAILURES.iter().position(|known| *known == failure).unwrap();
        assert_eq!(after.failures[kind], before.failures[kind] + 1, "{deed}");
    }
    assert_eq!(loaded.health(), Health::Serving);
}

#[test]
fn a_trap_in_any_phase_is_a_failure_of_that_call_only() {
    let (_scene, loaded) = probe(NO_QUARANTINE);
    let (head, snapshot) = (request(&[("x-do", "panic")]), snapshot());
    let call = Call { head: &head, snapshot: &snapshot };
    let piece = || Piece { content: bytes("some"), end: true, context: bytes("") };
    let trap = Some(CallFailure::Trap);
    on_core(async {
        assert_eq!(loaded.authenticate(call, true).await.err(), trap);
        assert_eq!(loaded.draw(call).await.err(), trap);
        assert_eq!(loaded.route(call).await.err(), trap);
        assert_eq!(loaded.transform_request(call).await.err(), trap);
        assert_eq!(loaded.transform_request_body(call, piece()).await.err(), trap);
        assert_eq!(loaded.transform_response(call, response(&[]), bytes("")).await.err(), trap);
        assert_eq!(loaded.transform_response_body(call, response(&[]), piece()).await.err(), trap);
        assert_eq!(told(&loaded, "calls", "").await, Ok("1".into()));
    });
    assert_eq!(loaded.meter().read().calls, [1, 2, 1, 1, 1, 1, 1]);
}

#[test]
fn a_loop_ends_within_its_budget_and_a_few_ticks() {
    for (cpu, least) in [("20ms", 15), ("1ms", 1)] {
        let budget = format!("budget = {{ cpu = \"{cpu}\", wall = \"20s\" }}\n{NO_QUARANTINE}");
        let (_scene, loaded) = probe(&budget);
        for _ in 0..5 {
            let begun = cpu_time();
            assert_eq!(tell(&loaded, "loop", ""), Err(CallFailure::Cpu));
            let taken = cpu_time() - begun;
            assert!(taken >= Duration::from_millis(least), "{taken:?} is less than {cpu}");
            assert!(taken < Duration::from_millis(100), "{taken:?} is far more than {cpu}");
        }
    }
}

/// CPU time of this thread: what the machine does beside does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[test]
fn answers_are_held_to_their_budget_to_the_byte() {
    let (_scene, loaded) = probe(&format!(
        "budget = {{ output = \"64KiB\", cpu = \"300ms\", wall = \"20s\" }}\n{NO_QUARANTINE}"
    ));
    assert_eq!(tell(&loaded, "huge", "60000").map(|answer| answer.len()), Ok(60_000));
    assert_eq!(tell(&loaded, "huge", "70000"), Err(CallFailure::Output));
}

#[test]
fn traps_leave_no_memory_behind() {
    let (_scene, loaded) = probe(NO_QUARANTINE);
    on_core(async {
        let batch = async || {
            for _ in 0..500 {
                assert_eq!(told(&loaded, "panic", "").await, Err(CallFailure::Trap));
            }
        };
        batch().await;
        let before = resident();
        batch().await;
        batch().await;
        batch().await;
        let after = resident();
        assert!(after < before + (8 << 20), "resident memory grew from {before} to {after} over 1,500 traps");
    });
    let reading = loaded.meter().read();
    assert!(reading.live <= 4, "{} instances are live", reading.live);
}

#[test]
fn kills_begin_a_quarantine_and_a_good_probe_ends_it() {
    let (_scene, loaded) =
        probe("quarantine = { kills = 3, window = \"60s\", rest = \"1s\" }\nrevert.calls = 0");
    for _ in 0..3 {
        assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap));
    }
    assert_eq!(loaded.health(), Health::Resting);
    assert_eq!(tell(&loaded, "calls", ""), Err(CallFailure::Quarantined));
    eventually("the rest is over", || loaded.health() == Health::Probing);
    assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap), "one probe is let through");
    assert_eq!(tell(&loaded, "calls", ""), Err(CallFailure::Quarantined), "and fails");
    eventually("the second rest is over", || loaded.health() == Health::Probing);
    assert_eq!(tell(&loaded, "calls", ""), Ok("1".into()));
    assert_eq!(loaded.health(), Health::Serving);
    assert_eq!(loaded.meter().read().quarantines, 2);
}

#[test]
fn a_new_version_that_fails_asks_once_to_be_taken_back() {
    let (scene, loaded) = probe("quarantine.kills = 0\nrevert = { calls = 20, failure_ratio = 0.5 }");
    for _ in 0..10 {
        assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap));
    }
    assert_eq!(*scene.reverts.lock().unwrap(), [loaded.version()]);
    let (scene, good) = probe("revert = { calls = 20, failure_ratio = 0.5 }");
    for _ in 0..30 {
        assert!(tell(&good, "calls", "").is_ok());
    }
    good.reject_answer("late");
    assert!(scene.reverts.lock().unwrap().is_empty());
}

#[test]
fn a_rejected_answer_counts_as_a_failed_call() {
    let (scene, loaded) = probe("revert = { calls = 10, failure_ratio = 0.9 }");
    for _ in 0..6 {
        assert!(authenticate(&loaded, "calls").is_ok());
        loaded.reject_answer("a control byte in a header");
    }
    assert_eq!(scene.reverts.lock().unwrap().len(), 1);
}

#[test]
fn log_lines_over_the_pace_are_dropped_and_counted() {
    let (_scene, loaded) = probe(&format!(
        "budget = {{ log_lines = 10, host_calls = 200000, cpu = \"5s\", wall = \"20s\" }}\n{NO_QUARANTINE}"
    ));
    assert_eq!(tell(&loaded, "storm", ""), Ok("written".into()));
    let dropped = loaded.meter().read().log_lines_dropped;
    assert!((99_000..100_000).contains(&dropped), "{dropped} lines were dropped");
}

#[test]
fn setting_up_may_fail_too() {
    let scene = Scene::new();
    for deed in ["panic", "loop"] {
        let refusal = scene
            .bind("probe", &format!("grants.store = [\"space\"]\nsettings.deed = \"{deed}\""))
            .err()
            .expect("it is refused");
        assert!(refusal.to_string().contains("`configure` failed"), "{refusal}");
    }
}
