//! The state machine of a breaker, with a clock that is advanced explicitly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use proptest::prelude::*;

use super::*;
use crate::observe::{Extent, Failure};

const FAST: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// An incomplete or malformed response.
const BROKEN: Failure = Failure { extent: Extent::Reached, shared: false, repeated: false };

/// Another endpoint is in service.
fn others() -> Option<()> {
    Some(())
}

/// No other endpoint is in service.
fn nobody() -> Option<()> {
    None
}

fn breaker() -> Breaker {
    Breaker { clock: Clock::still(), ..Breaker::default() }
}

/// Settings without any rule, with open periods of one second.
fn settings() -> model::Breaker {
    model::Breaker {
        statuses: model::Statuses::default(),
        consecutive_failures: 0,
        failure_ratio: 0.0,
        slow_ratio: 0.0,
        slow_call: SECOND,
        window: 10 * SECOND,
        min_requests: 10,
        open_for: SECOND,
        max_open_for: SECOND,
        probes: 1,
        probe_successes: 1,
    }
}

fn enter(breaker: &Breaker, settings: &model::Breaker) -> Option<Call> {
    breaker.enter(settings).map(|(call, _)| call)
}

/// A call that succeeds.
fn succeed(breaker: &Breaker, settings: &model::Breaker) -> Option<Change> {
    let call = enter(breaker, settings)?;
    let change = call.answered(breaker, FAST, settings);
    change.or(call.completed(breaker, settings))
}

fn fail(breaker: &Breaker, settings: &model::Breaker) -> Option<Change> {
    enter(breaker, settings)?.failed(breaker, BROKEN, settings, others)
}

fn opened(change: Option<Change>) -> Option<Reason> {
    match change {
        Some(Change::Opened(reason)) => Some(reason),
        _ => None,
    }
}

#[test]
fn failures_in_a_row_open_it_and_whole_answers_between_them_do_not() {
    let (breaker, settings) = (breaker(), model::Breaker { consecutive_failures: 3, ..settings() });
    for _ in 0..5 {
        assert_eq!(fail(&breaker, &settings), None);
        assert_eq!(fail(&breaker, &settings), None);
        succeed(&breaker, &settings);
    }
    fail(&breaker, &settings);
    fail(&breaker, &settings);
    assert_eq!(opened(fail(&breaker, &settings)), Some(Reason::InARow(3)));
    assert!(enter(&breaker, &settings).is_none());
    assert_eq!((breaker.state(), breaker.rests_for()), (BreakerState::Open, SECOND));
}

#[test]
fn failures_of_one_event_are_one_in_a_row_but_many_in_the_share_and_a_probe_among_them_fails() {
    let share = |breaker: &Breaker, settings: &model::Breaker| {
        let call = enter(breaker, settings).unwrap();
        call.failed(breaker, Failure { shared: true, ..BROKEN }, settings, others)
    };
    let (row, rows) = (breaker(), model::Breaker { consecutive_failures: 2, ..settings() });
    assert_eq!(fail(&row, &rows), None);
    for _ in 0..10 {
        assert_eq!(share(&row, &rows), None);
    }
    assert_eq!(opened(fail(&row, &rows)), Some(Reason::InARow(2)));
    row.clock.pass(SECOND);
    assert_eq!(opened(share(&row, &rows)), Some(Reason::Probe));

    let (ratio, ratios) = (breaker(), model::Breaker { failure_ratio: 1.0, ..settings() });
    for _ in 0..9 {
        assert_eq!(share(&ratio, &ratios), None);
    }
    assert_eq!(opened(share(&ratio, &ratios)).unwrap().to_string(), "10 of 10 calls failed");
}

#[test]
fn a_share_of_failures_opens_it_once_there_is_enough_to_tell() {
    let (breaker, settings) = (breaker(), model::Breaker { failure_ratio: 0.5, ..settings() });
    for _ in 0..5 {
        assert_eq!(fail(&breaker, &settings), None, "of too few");
    }
    for _ in 0..4 {
        assert_eq!(succeed(&breaker, &settings), None);
    }
    let reason = opened(succeed(&breaker, &settings)).unwrap();
    assert_eq!(reason.to_string(), "5 of 10 calls failed");
}

#[test]
fn failures_of_long_ago_are_forgotten() {
    let (breaker, settings) = (breaker(), model::Breaker { failure_ratio: 0.5, ..settings() });
    for _ in 0..9 {
        fail(&breaker, &settings);
    }
    breaker.clock.pass(10 * SECOND);
    for _ in 0..20 {
        assert_eq!(succeed(&breaker, &settings), None);
    }
}

#[test]
fn an_answer_that_breaks_off_is_one_call_and_one_failure() {
    let settings = model::Breaker { failure_ratio: 0.5, min_requests: 2, ..settings() };
    let breaker = breaker();
    let call = enter(&breaker, &settings).unwrap();
    assert_eq!(call.answered(&breaker, FAST, &settings), None);
    assert_eq!(call.failed(&breaker, BROKEN, &settings, others), None, "one call is too few");
    assert_eq!(call.failed(&breaker, BROKEN, &settings, others), None, "said once");
    assert_eq!(opened(succeed(&breaker, &settings)).unwrap().to_string(), "1 of 2 calls failed");
}

#[test]
fn slow_calls_open_it_even_if_nobody_waited_for_their_end() {
    let (breaker, settings) = (breaker(), model::Breaker { slow_ratio: 0.3, ..settings() });
    for _ in 0..7 {
        assert_eq!(succeed(&breaker, &settings), None);
    }
    let slow = enter(&breaker, &settings).unwrap();
    assert_eq!(slow.answered(&breaker, SECOND, &settings), None);
    for waited in [None, Some(FAST), Some(2 * SECOND)] {
        let gone = enter(&breaker, &settings).unwrap();
        assert_eq!(gone.abandoned(&breaker, || waited, &settings), None);
    }
    let gone = enter(&breaker, &settings).unwrap();
    let reason = opened(gone.abandoned(&breaker, || Some(SECOND), &settings)).unwrap();
    assert_eq!(reason.to_string(), "3 of 10 calls were slow");
    breaker.clock.pass(SECOND);
    let probe = enter(&breaker, &settings).unwrap();
    assert_eq!(opened(probe.answered(&breaker, SECOND, &settings)), Some(Reason::SlowProbe));
}

#[test]
fn probes_pass_so_many_at_once_and_close_it_when_enough_succeeded() {
    let settings = model::Breaker { consecutive_failures: 1, probes: 2, probe_successes: 3, ..settings() };
    let breaker = breaker();
    fail(&breaker, &settings);
    breaker.clock.pass(SECOND);
    let (first, change) = breaker.enter(&settings).unwrap();
    assert_eq!(change, Some(Change::HalfOpened));
    let (second, change) = breaker.enter(&settings).unwrap();
    assert_eq!(change, None);
    assert!(enter(&breaker, &settings).is_none());
    assert_eq!(first.abandoned(&breaker, || Some(FAST), &settings), None);
    let third = enter(&breaker, &settings).unwrap();
    assert_eq!(second.answered(&breaker, FAST, &settings), None);
    assert_eq!(third.answered(&breaker, FAST, &settings), None);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(succeed(&breaker, &settings), Some(Change::Closed));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn rests_grow_while_probes_fail_and_begin_anew_once_it_closed() {
    let settings = model::Breaker { consecutive_failures: 1, max_open_for: 5 * SECOND, ..settings() };
    let breaker = breaker();
    fail(&breaker, &settings);
    for rest in [1, 2, 4, 5, 5] {
        assert_eq!(breaker.rests_for(), rest * SECOND);
        breaker.clock.pass(rest * SECOND);
        assert_eq!(opened(fail(&breaker, &settings)), Some(Reason::Probe));
    }
    breaker.clock.pass(5 * SECOND);
    assert_eq!(succeed(&breaker, &settings), Some(Change::Closed));
    fail(&breaker, &settings);
    assert_eq!(breaker.rests_for(), SECOND);
}

#[test]
fn what_a_probe_of_an_earlier_rest_says_counts_no_longer() {
    let settings = model::Breaker { consecutive_failures: 1, probes: 2, ..settings() };
    let breaker = breaker();
    fail(&breaker, &settings);
    breaker.clock.pass(SECOND);
    let late = enter(&breaker, &settings).unwrap();
    fail(&breaker, &settings);
    assert_eq!(late.answered(&breaker, FAST, &settings), None);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn closed_by_a_head_it_opens_again_when_the_body_breaks_off() {
    let (breaker, settings) = (breaker(), model::Breaker { consecutive_failures: 5, ..settings() });
    for _ in 0..5 {
        fail(&breaker, &settings);
    }
    breaker.clock.pass(SECOND);
    let probe = enter(&breaker, &settings).unwrap();
    assert_eq!(probe.answered(&breaker, FAST, &settings), Some(Change::Closed));
    assert_eq!(opened(probe.failed(&breaker, BROKEN, &settings, others)), Some(Reason::InARow(5)));
}

fn fail_alone(breaker: &Breaker, extent: Extent, settings: &model::Breaker) -> Option<Change> {
    enter(breaker, settings)?.failed(breaker, Failure { extent, ..BROKEN }, settings, nobody)
}

#[test]
fn that_of_the_last_endpoint_opens_if_it_is_not_reached_but_not_for_what_becomes_of_a_connection() {
    let settings = model::Breaker { consecutive_failures: 3, ..settings() };
    let alone = breaker();
    for _ in 0..9 {
        assert_eq!(fail_alone(&alone, Extent::Reached, &settings), None);
        // No other endpoint responds, for however long.
        alone.clock.pass(20 * SECOND);
    }
    assert_eq!(opened(fail(&alone, &settings)), Some(Reason::InARow(10)), "once another serves, it does");
    for extent in [Extent::Unreached, Extent::Status] {
        let alone = breaker();
        assert_eq!(fail_alone(&alone, extent, &settings), None);
        assert_eq!(fail_alone(&alone, extent, &settings), None);
        // A connection resets the counter of the last endpoint.
        assert_eq!(fail_alone(&alone, Extent::Reached, &settings), None);
        assert_eq!(fail_alone(&alone, extent, &settings), None);
        assert_eq!(fail_alone(&alone, extent, &settings), None);
        assert_eq!(opened(fail_alone(&alone, extent, &settings)), Some(Reason::InARow(6)));
    }
}

#[test]
fn a_share_that_is_asked_for_opens_that_of_the_last_endpoint_too() {
    let settings = model::Breaker { failure_ratio: 0.5, ..settings() };
    let alone = breaker();
    for _ in 0..9 {
        assert_eq!(fail_alone(&alone, Extent::Reached, &settings), None);
    }
    assert!(opened(fail_alone(&alone, Extent::Reached, &settings)).is_some());
}

#[test]
fn a_probe_that_is_connected_closes_that_of_the_last_endpoint() {
    let settings = model::Breaker { consecutive_failures: 1, ..settings() };
    let alone = breaker();
    assert!(opened(fail_alone(&alone, Extent::Unreached, &settings)).is_some());
    alone.clock.pass(SECOND);
    assert!(opened(fail_alone(&alone, Extent::Unreached, &settings)).is_some());
    alone.clock.pass(SECOND);
    let probe = enter(&alone, &settings).unwrap();
    assert!(enter(&alone, &settings).is_none(), "it is not known yet");
    assert_eq!(probe.connected(&alone, &settings, nobody), Some(Change::Closed));
    assert!(enter(&alone, &settings).is_some(), "a slow probe keeps nobody out");
    assert_eq!(probe.failed(&alone, BROKEN, &settings, nobody), None);
    assert_eq!(fail_alone(&alone, Extent::Reached, &settings), None);
    assert_eq!(alone.state(), BreakerState::Closed);
}

#[test]
fn a_connection_is_not_enough_where_others_serve_or_where_it_opened_for_answers() {
    let settings = model::Breaker { consecutive_failures: 1, max_open_for: SECOND, ..settings() };
    let one_of_two = breaker();
    fail(&one_of_two, &settings);
    one_of_two.clock.pass(SECOND);
    let probe = enter(&one_of_two, &settings).unwrap();
    assert_eq!(probe.connected(&one_of_two, &settings, others), None);
    assert_eq!(opened(probe.failed(&one_of_two, BROKEN, &settings, others)), Some(Reason::Probe));
    let alone = breaker();
    assert!(opened(fail_alone(&alone, Extent::Status, &settings)).is_some());
    alone.clock.pass(SECOND);
    let probe = enter(&alone, &settings).unwrap();
    assert_eq!(probe.connected(&alone, &settings, nobody), None);
    let status = Failure { extent: Extent::Status, ..BROKEN };
    assert_eq!(opened(probe.failed(&alone, status, &settings, nobody)), Some(Reason::Probe));
    alone.clock.pass(SECOND);
    // A missing response has none of the named statuses.
    assert_eq!(fail_alone(&alone, Extent::Reached, &settings), Some(Change::Closed));
}

#[test]
fn of_one_request_one_failure_counts() {
    let (breaker, settings) = (breaker(), model::Breaker { consecutive_failures: 2, ..settings() });
    let again = Failure { repeated: true, ..BROKEN };
    fail(&breaker, &settings);
    for _ in 0..9 {
        assert_eq!(enter(&breaker, &settings).unwrap().failed(&breaker, again, &settings, others), None);
    }
    assert!(opened(fail(&breaker, &settings)).is_some());
    breaker.clock.pass(SECOND);
    let probe = enter(&breaker, &settings).unwrap();
    assert_eq!(opened(probe.failed(&breaker, again, &settings, others)), Some(Reason::Probe));
}

/// Passes these calls to a breaker, spread over threads.
fn fed(threads: usize, kinds: &[bool], settings: model::Breaker) -> BreakerState {
    let breaker = Arc::new(breaker());
    let kinds: Arc<[bool]> = kinds.into();
    let feeding: Vec<_> = (0..threads)
        .map(|thread| {
            let (breaker, kinds) = (breaker.clone(), kinds.clone());
            std::thread::spawn(move || {
                for good in kinds.iter().skip(thread).step_by(threads) {
                    let call = Call::new(Pass::Ordinary);
                    if *good {
                        call.answered(&breaker, FAST, &settings);
                        call.completed(&breaker, &settings);
                    } else {
                        call.failed(&breaker, BROKEN, &settings, others);
                    }
                }
            })
        })
        .collect();
    feeding.into_iter().for_each(|thread| thread.join().unwrap());
    breaker.state()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// The minimum of calls is reached only with the last one, so neither the order of calls nor the threads
    /// matter.
    #[test]
    fn the_same_calls_decide_the_same_on_any_number_of_threads(kinds in prop::collection::vec(any::<bool>(), 1..400)) {
        let failed = kinds.iter().filter(|good| !**good).count();
        let settings =
            model::Breaker { failure_ratio: 0.5, min_requests: kinds.len() as u32, ..settings() };
        let expected =
            if failed * 2 >= kinds.len() { BreakerState::Open } else { BreakerState::Closed };
        for threads in [1, 2, 4] {
            prop_assert_eq!(fed(threads, &kinds, settings), expected, "{} threads", threads);
        }
    }

    /// Whatever the threads do while the breaker is half-open, there are never more probes in flight than allowed.
    #[test]
    fn probes_are_never_too_many(probes in 1_u32..4, outcomes in prop::collection::vec(any::<bool>(), 8..60)) {
        let settings = model::Breaker {
            consecutive_failures: 1,
            probes,
            probe_successes: 1000,
            open_for: FAST,
            max_open_for: FAST,
            ..settings()
        };
        let breaker = Arc::new(breaker());
        fail(&breaker, &settings);
        let (under_way, too_many) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let outcomes: Arc<[bool]> = outcomes.into();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (breaker, outcomes) = (breaker.clone(), outcomes.clone());
                let (under_way, too_many) = (under_way.clone(), too_many.clone());
                std::thread::spawn(move || {
                    for outcome in outcomes.iter() {
                        let Some(call) = enter(&breaker, &settings) else {
                            breaker.clock.pass(FAST);
                            continue;
                        };
                        let others = under_way.fetch_add(1, Ordering::SeqCst);
                        too_many.fetch_or(others >= probes as usize, Ordering::SeqCst);
                        std::thread::yield_now();
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        match outcome {
                            true => call.answered(&breaker, FAST, &settings),
                            false => call.abandoned(&breaker, || None, &settings),
                        };
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        prop_assert!(!too_many.load(Ordering::SeqCst));
        prop_assert_eq!(Word::unpack(breaker.word.load(Ordering::SeqCst)).map(|word| word.probes), Some(0));
    }
}
