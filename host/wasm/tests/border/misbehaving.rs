//! Guests that misbehave: each call ends with its kind of failure, and the next call succeeds.

use std::time::Duration;

use witgate_exchange::contracts::{
    Authentication as _, Binding as _, Call, CallFailure, Piece, RateLimiting as _, Routing as _,
    Transformation as _,
};
use witgate_wasm::meter::FAILURES;
use witgate_wasm::{Calls, Health, Loaded};

use crate::scene::{
    Scene, authenticate, bytes, eventually, on_core, probe, request, resident, response, snapshot, tell, told,
};

const NO_QUARANTINE: &str = "quarantine = \"off\"\nrevert.calls = 0";

#[test]
fn every_deed_ends_with_its_kind_and_the_next_call_is_answered() {
    // One instance at a time, so that the next call can only use an instance that was made after the failure.
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
    let call = Call { head: &head, fetch: &snapshot };
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
    assert_eq!(loaded.meter().read().calls, [0, 1, 0, 2, 0, 1, 0, 1, 1, 1, 1, 0, 0]);
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

/// CPU time of this thread, which does not include other work of the machine.
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
fn a_plugin_that_always_fails_is_put_in_quarantine_and_a_good_probe_ends_it() {
    let (_scene, loaded) = probe("quarantine = { min_calls = 3, window = \"60s\", rest = \"1s\" }");
    for _ in 0..3 {
        assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap));
    }
    assert_eq!(loaded.health(), Health::Resting);
    assert_eq!(tell(&loaded, "calls", ""), Err(CallFailure::Quarantined));
    let told = loaded.quarantine().expect("it is in quarantine");
    assert_eq!((told.cause.as_str(), told.probing), ("3 of 3 calls within 60s failed", false));
    eventually("the rest is over", || loaded.health() == Health::Probing);
    assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap), "one probe is let through");
    assert_eq!(tell(&loaded, "calls", ""), Err(CallFailure::Quarantined), "and fails");
    eventually("the second rest is over", || loaded.health() == Health::Probing);
    assert!(loaded.quarantine().is_some_and(|told| told.probing && told.lasted > Duration::from_secs(2)));
    assert_eq!(tell(&loaded, "calls", ""), Ok("1".into()));
    assert_eq!(loaded.health(), Health::Serving);
    assert_eq!((loaded.meter().read().quarantines, loaded.quarantine()), (1, None));
}

#[test]
fn cheap_failures_of_one_call_in_ten_are_no_reason_for_quarantine() {
    let (_scene, loaded) = probe("");
    for call in 1..=1000 {
        let deed = if call % 10 == 0 { "panic" } else { "calls" };
        assert_eq!(tell(&loaded, deed, "").is_ok(), call % 10 != 0, "call {call}");
    }
    assert_eq!(loaded.meter().read().quarantines, 0);
}

#[test]
fn loops_of_one_call_in_ten_are_put_in_quarantine_for_the_cpu_time_they_burn() {
    let (_scene, loaded) =
        probe("quarantine = { share = 0.02, window = \"20s\" }\nbudget = { cpu = \"30ms\", wall = \"20s\" }");
    let mut loops = 0;
    while loaded.health() == Health::Serving {
        assert!((0..9).all(|_| tell(&loaded, "calls", "").is_ok()));
        assert_eq!(tell(&loaded, "loop", ""), Err(CallFailure::Cpu));
        loops += 1;
        assert!(loops < 20, "{loops} loops of 30 ms and more are 400 ms by then");
    }
    assert!(loops > 2, "{loops} loops cannot have burnt 400 ms");
    let told = loaded.quarantine().expect("it is in quarantine");
    assert!(told.cause.starts_with("failed calls used 4"), "{}", told.cause);
}

#[test]
fn answers_that_are_always_rejected_are_put_in_quarantine() {
    let (_scene, loaded) = probe("");
    for _ in 0..20 {
        assert!(authenticate(&loaded, "calls").is_ok());
        loaded.reject_answer("a control byte in a header");
    }
    assert_eq!(loaded.health(), Health::Resting);
}

/// Calls of a previous version that never failed.
const NEVER_FAILED: Calls = Calls { made: 1000, failed: 0 };

#[test]
fn a_version_that_fails_on_trial_asks_to_be_taken_back_and_no_other_does() {
    let (scene, loaded) = probe("");
    for _ in 0..10 {
        assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap));
    }
    assert!(scene.reverts.lock().unwrap().is_empty(), "there is nothing to go back to");
    loaded.begin_trial(NEVER_FAILED);
    for _ in 0..4 {
        assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap));
    }
    assert!(scene.reverts.lock().unwrap().is_empty() && loaded.is_on_trial());
    assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap));
    assert_eq!(*scene.reverts.lock().unwrap(), [loaded.version()]);
    assert!(!loaded.is_good());

    let (scene, good) = probe("revert = { calls = 20 }");
    good.begin_trial(NEVER_FAILED);
    for _ in 0..30 {
        assert!(tell(&good, "calls", "").is_ok());
    }
    (0..10).for_each(|_| good.reject_answer("late"));
    assert!(scene.reverts.lock().unwrap().is_empty() && good.is_good());
}

#[test]
fn a_version_that_fails_now_and_then_is_taken_back_where_the_one_before_did_not() {
    let fails_in_ten = |loaded: &Loaded| {
        for call in 1..=100 {
            drop(tell(loaded, if call % 10 == 0 { "panic" } else { "calls" }, ""));
        }
    };
    let (scene, loaded) = probe("");
    fails_in_ten(&loaded);
    let as_before = loaded.latest_calls();
    assert_eq!(as_before, Calls { made: 100, failed: 10 });
    loaded.begin_trial(as_before);
    fails_in_ten(&loaded);
    assert!(scene.reverts.lock().unwrap().is_empty(), "the version before failed alike");
    loaded.begin_trial(NEVER_FAILED);
    fails_in_ten(&loaded);
    assert!(scene.reverts.lock().unwrap().contains(&loaded.version()));
    assert_eq!(loaded.health(), Health::Serving, "and it is no case for quarantine");
}

#[test]
fn a_version_in_quarantine_is_judged_by_its_probes() {
    let (scene, loaded) = probe("quarantine = { min_calls = 2, rest = \"50ms\" }");
    loaded.begin_trial(NEVER_FAILED);
    for call in 1..=5 {
        eventually("a call is let through", || loaded.health() != Health::Resting);
        assert_eq!(tell(&loaded, "panic", ""), Err(CallFailure::Trap), "call {call}");
        assert_eq!(loaded.quarantine().is_some(), call >= 2, "call {call}");
    }
    assert_eq!(scene.reverts.lock().unwrap().len(), 1);
}

#[test]
fn a_version_that_is_put_back_is_neither_on_trial_nor_in_quarantine() {
    let (scene, loaded) = probe("quarantine = { min_calls = 3, rest = \"60s\" }");
    loaded.begin_trial(NEVER_FAILED);
    (0..3).for_each(|_| drop(tell(&loaded, "panic", "")));
    assert_eq!(loaded.health(), Health::Resting);
    loaded.put_back();
    assert_eq!((loaded.health(), loaded.is_on_trial()), (Health::Serving, false));
    assert!(tell(&loaded, "calls", "").is_ok());
    (0..10).for_each(|_| drop(tell(&loaded, "panic", "")));
    assert!(scene.reverts.lock().unwrap().is_empty());
}

#[test]
fn a_version_whose_latest_calls_mostly_failed_is_not_gone_back_to() {
    let calls = |loaded: &Loaded, deed: &str, times: usize| {
        (0..times).for_each(|_| drop(tell(loaded, deed, "")));
    };
    let (_scene, first) = probe(NO_QUARANTINE);
    assert!(first.is_good(), "nothing is known against a version that was never called");
    calls(&first, "panic", 40);
    assert!(!first.is_good(), "it has never been on trial, but has answered nothing");
    calls(&first, "calls", 60);
    assert!(first.is_good(), "of late it answers");

    let (_scene, through) = probe("quarantine = \"off\"\nrevert.calls = 20");
    through.begin_trial(NEVER_FAILED);
    calls(&through, "calls", 1500);
    assert!(through.is_good() && !through.is_on_trial());
    calls(&through, "panic", 20);
    assert!(!through.is_good(), "it has come through its trial, and has failed always since");

    let (_scene, now_and_then) = probe(NO_QUARANTINE);
    (0..50).for_each(|call| calls(&now_and_then, if call % 3 == 0 { "panic" } else { "calls" }, 1));
    assert!(now_and_then.is_good(), "it answers most calls, and the operator may prefer it");
}

#[test]
fn a_version_in_quarantine_is_not_gone_back_to_however_many_calls_it_answered() {
    let (_scene, loaded) =
        probe("quarantine = { share = 0.02, window = \"20s\" }\nbudget = { cpu = \"30ms\", wall = \"20s\" }");
    while loaded.health() == Health::Serving {
        assert!((0..9).all(|_| tell(&loaded, "calls", "").is_ok()));
        assert!(loaded.is_good());
        assert_eq!(tell(&loaded, "loop", ""), Err(CallFailure::Cpu));
    }
    assert!(!loaded.is_good());
}

#[test]
fn metrics_show_the_version_that_was_put_in_service_last() {
    let scene = Scene::new();
    let bind =
        |settings: &str| scene.bind("probe", &format!("grants.store = [\"space\"]\n{settings}")).unwrap();
    let good = bind("");
    let bad = bind("quarantine = { min_calls = 1, rest = \"60s\" }");
    assert!(tell(&bad, "panic", "").is_err());
    let shown = |health: u8| {
        let line = format!("witgate_plugin_quarantine{{binding=\"b\"}} {health}");
        scene.telemetry.metrics().expose().lines().any(|found| found == line)
    };
    assert!(shown(1));
    good.put_back();
    assert!(shown(0), "a connection may hold on to the other one for hours");
}

#[test]
fn a_rejected_answer_counts_as_a_failed_call() {
    let (scene, loaded) = probe("");
    loaded.begin_trial(NEVER_FAILED);
    for _ in 0..6 {
        assert!(authenticate(&loaded, "calls").is_ok());
        loaded.reject_answer("a control byte in a header");
    }
    assert!(scene.reverts.lock().unwrap().contains(&loaded.version()));
    assert_eq!((loaded.latest_calls(), loaded.meter().read().reverts), (Calls { made: 6, failed: 6 }, 1));
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
