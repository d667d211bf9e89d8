use std::sync::Arc;
use std::time::{Duration, Instant};

use witgate_exchange::fault::{Fault, FaultKind};

use super::*;
use crate::health::state::HealthState;
use crate::observe::Extent;

const NONE: [usize; 0] = [];
const SECOND: Duration = Duration::from_secs(1);

/// An upstream with this number of endpoints, and with these settings.
fn upstream(endpoints: usize, settings: &str) -> Arc<Upstream> {
    let addresses: Vec<String> = (1..=endpoints).map(|port| format!("127.0.0.1:{port}")).collect();
    let text = format!(
        "[upstreams.origin]\nendpoints = {addresses:?}\nejection = {{ {settings} }}\n\
         health = {{ healthy_threshold = 2, tcp = {{}} }}\n"
    );
    let loaded = witgate_config::parse_str(&text);
    let config = loaded.unwrap_or_else(|failure| panic!("{:?}", failure.problems)).config;
    Upstream::build("origin", &config.upstreams["origin"], None, &Default::default(), None)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn fail(upstream: &Upstream, index: usize, shown: ObservedFailure) {
    let endpoint = upstream.endpoint(index);
    upstream.count_failure(&Others::of(upstream, &endpoint), &endpoint, shown, false);
}

fn err(upstream: &Upstream, index: usize) {
    fail(upstream, index, ObservedFailure::ServerError(500));
}

fn reset(upstream: &Upstream, index: usize, times: usize) {
    for _ in 0..times {
        let reset = Failing::of(&Fault::new(FaultKind::UpstreamReset), Extent::Reached);
        fail(upstream, index, ObservedFailure::Fault(reset));
    }
}

fn eject(upstream: &Upstream, index: usize, now: Instant) {
    let (cause, endpoint) = (Cause::Streak { seen_by_checks: true, joined: false }, upstream.endpoint(index));
    upstream.eject(&Others::of(upstream, &endpoint), &endpoint, cause, "test", now);
}

/// The indices of the ejected endpoints.
fn ejected(upstream: &Upstream) -> Vec<usize> {
    let places = 0..upstream.set.load().entries.len();
    places.filter(|index| upstream.endpoint(*index).ejection.is_ejected()).collect()
}

fn remains(upstream: &Upstream, index: usize, now: Instant) -> Option<u64> {
    upstream.endpoint(index).ejection.remains(now).map(|remains| remains.as_secs())
}

#[test]
fn faults_in_a_row_eject_at_once_and_successes_break_the_row() {
    let upstream = upstream(2, "consecutive_faults = 3");
    for _ in 0..4 {
        reset(&upstream, 0, 2);
        upstream.endpoint(0).ejection.succeeded();
    }
    assert_eq!(ejected(&upstream), NONE);
    reset(&upstream, 0, 3);
    assert_eq!(ejected(&upstream), [0]);
    assert_eq!(upstream.endpoint(0).ejection.requests(), (4, 11));
    let events = upstream.carried.events.recent();
    assert_eq!(events[0].why, "3 faults in a row, the last: upstream-reset; for 5s");
}

#[test]
fn server_errors_have_a_row_of_their_own() {
    let upstream = upstream(3, "consecutive_faults = 2, consecutive_server_errors = 3, max_ejected = 100");
    // A response is not a fault, so it ends the streak of faults, but not the streak in which both count.
    reset(&upstream, 0, 1);
    err(&upstream, 0);
    assert_eq!(ejected(&upstream), NONE);
    reset(&upstream, 0, 1);
    assert_eq!(ejected(&upstream), [0]);
    for _ in 0..3 {
        err(&upstream, 1);
    }
    assert_eq!(ejected(&upstream), [0, 1]);
    assert!(
        upstream.carried.events.recent()[1].why.starts_with("3 server errors in a row, the last: status 500")
    );
}

#[test]
fn off_is_off() {
    let upstream = upstream(2, "consecutive_faults = 0");
    reset(&upstream, 0, 100);
    (0..100).for_each(|_| err(&upstream, 0));
    assert_eq!(ejected(&upstream), NONE);
}

#[test]
fn the_cap_holds_and_the_last_in_service_stays() {
    for (endpoints, most, expected) in
        [(1, 100, 0), (2, 50, 1), (2, 100, 1), (3, 50, 2), (4, 25, 1), (10, 31, 4), (3, 0, 0)]
    {
        let upstream = upstream(endpoints, &format!("max_ejected = {most}"));
        (0..endpoints).for_each(|index| reset(&upstream, index, 5));
        assert_eq!(ejected(&upstream).len(), expected, "{most} % of {endpoints}");
    }
    let upstream = upstream(2, "max_ejected = 100");
    let plan = upstream.plan.as_ref().unwrap();
    upstream.endpoint(1).health.note(&Err("ill".to_owned()), &plan.settings);
    reset(&upstream, 0, 5);
    assert_eq!(ejected(&upstream), NONE, "the other is unhealthy");
    // If an ejection was not possible at the threshold, it is tried again at the next multiple.
    upstream.endpoint(1).health.forget();
    reset(&upstream, 0, 4);
    assert_eq!(ejected(&upstream), NONE);
    reset(&upstream, 0, 1);
    assert_eq!(ejected(&upstream), [0]);
    assert_eq!(upstream.endpoint(1).health.state(), HealthState::Unknown);
}

#[test]
fn time_grows_with_each_in_a_row_up_to_the_longest_and_is_forgotten_in_service() {
    let upstream = upstream(2, "base_time = \"5s\", max_time = \"12s\", interval = \"10s\"");
    let mut now = Instant::now();
    for lasts in [5, 10, 12, 12] {
        eject(&upstream, 0, now);
        assert_eq!(remains(&upstream, 0, now), Some(lasts));
        upstream.review_ejections(now + SECOND * (lasts as u32 - 1));
        assert_eq!(ejected(&upstream), [0], "not before its time");
        now += SECOND * lasts as u32;
        upstream.review_ejections(now);
        assert_eq!(ejected(&upstream), NONE);
    }
    // Four ejections in a row. Each interval in service forgets one.
    for intervals in 1..=3 {
        upstream.review_ejections(now + SECOND * 10 * intervals - SECOND);
        upstream.review_ejections(now + SECOND * 10 * intervals);
    }
    now += SECOND * 30;
    eject(&upstream, 0, now);
    assert_eq!(remains(&upstream, 0, now), Some(10), "the second in a row");
}

#[test]
fn who_comes_back_is_on_probation_until_a_success() {
    let upstream = upstream(2, "consecutive_faults = 4");
    let now = Instant::now();
    eject(&upstream, 0, now);
    upstream.review_ejections(now + SECOND * 5);
    reset(&upstream, 0, 1);
    assert_eq!(ejected(&upstream), [0], "the first fault is one too many");
    upstream.review_ejections(Instant::now() + SECOND * 20);
    upstream.endpoint(0).ejection.succeeded();
    reset(&upstream, 0, 3);
    assert_eq!(ejected(&upstream), NONE);
}

#[test]
fn checks_end_the_first_ejection_early_but_no_other() {
    let upstream = upstream(2, "consecutive_faults = 1, max_ejected = 100");
    let endpoint = &upstream.endpoint(0);
    let check = |succeeds: bool| upstream.checked(endpoint, succeeds, Instant::now());
    let early = Instant::now();
    reset(&upstream, 0, 1);
    upstream.checked(endpoint, true, early);
    [true, false, true].into_iter().for_each(check);
    assert_eq!(ejected(&upstream), [0], "two in a row are wanted, begun since");
    check(true);
    assert_eq!(ejected(&upstream), NONE);
    assert_eq!(upstream.carried.events.recent().last().unwrap().why, "its checks succeed");
    // The endpoint fails requests while its checks succeed, so the checks must not end the ejection.
    reset(&upstream, 0, 1);
    (0..9).for_each(|_| check(true));
    assert_eq!(ejected(&upstream), [0]);
    // A check that would not detect a failure does not end the ejection for it.
    upstream.review_ejections(Instant::now() + SECOND * 60);
    let status = Failing::by(StatusCode::SERVICE_UNAVAILABLE);
    fail(&upstream, 1, ObservedFailure::Fault(status));
    (0..9).for_each(|_| upstream.checked(&upstream.endpoint(1), true, Instant::now()));
    assert_eq!(ejected(&upstream), [1]);
}

#[test]
fn success_rates_are_compared_once_in_an_interval() {
    let upstream = upstream(3, "consecutive_faults = 0, interval = \"10s\", success_rate = {}");
    let now = Instant::now();
    let traffic = |index: usize, succeeded: usize, failed: usize| {
        (0..succeeded).for_each(|_| upstream.endpoint(index).ejection.succeeded());
        (0..failed).for_each(|_| err(&upstream, index));
    };
    upstream.review_ejections(now);
    traffic(0, 100, 0);
    traffic(1, 50, 50);
    traffic(2, 98, 2);
    upstream.review_ejections(now + SECOND * 9);
    assert_eq!(ejected(&upstream), NONE);
    upstream.review_ejections(now + SECOND * 10);
    assert_eq!(ejected(&upstream), [1]);
    let why = upstream.carried.events.recent()[0].why.clone();
    assert_eq!(why, "50 % of its requests succeed, 83 % on the average; for 5s");
    // The endpoint is back after its time, and earlier results do not count again.
    upstream.review_ejections(now + SECOND * 20);
    upstream.review_ejections(now + SECOND * 30);
    assert_eq!(ejected(&upstream), NONE);
}

/// Several threads decide the same as one thread. The order of their calls is random.
#[test]
fn decisions_do_not_depend_on_how_many_cores_see_it() {
    for threads in [1, 2, 4] {
        let streak = upstream(2, "consecutive_faults = 40");
        let rates = upstream(3, "consecutive_faults = 0, success_rate = {}");
        let now = Instant::now();
        rates.review_ejections(now);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    reset(&streak, 0, 40 / threads);
                    for index in 0..3 {
                        let good = if index == 1 { 60 } else { 120 };
                        (0..good / threads).for_each(|_| rates.endpoint(index).ejection.succeeded());
                        reset(&rates, index, (120 - good) / threads);
                    }
                });
            }
        });
        assert_eq!(ejected(&streak), [0], "{threads} threads");
        assert_eq!(streak.carried.events.recent().len(), 1);
        rates.review_ejections(now + SECOND * 10);
        assert_eq!(ejected(&rates), [1], "{threads} threads");
        assert_eq!(rates.endpoint(1).ejection.requests(), (60, 60));
    }
}

#[test]
fn a_reload_keeps_what_is_known() {
    let before = upstream(3, "base_time = \"5s\"");
    let now = Instant::now();
    eject(&before, 0, now);
    reset(&before, 1, 4);
    let mut config = before.config.clone();
    config.keep_alive = SECOND;
    config.endpoints.reverse();
    let after = Upstream::build("origin", &config, None, &Default::default(), Some(&before))
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!(ejected(&after), [2]);
    reset(&after, 1, 1);
    assert_eq!(ejected(&after), [1, 2], "the row goes on");
    after.review_ejections(now + SECOND * 4);
    assert_eq!(ejected(&after), [1, 2]);
    after.review_ejections(now + SECOND * 5);
    assert!(!ejected(&after).contains(&2));
}
