use std::time::Duration;

use proptest::prelude::*;
use prost::Message;
use witgate_config::model::{Check, Health as Settings, OnUnhealthy};

use super::grpc::{HealthCheckRequest, HealthCheckResponse, framed};
use super::pause;
use super::state::{Health, HealthState};

fn settings(healthy_threshold: u32, unhealthy_threshold: u32) -> Settings {
    Settings {
        check: Check::Tcp { send: Vec::new(), expect: Vec::new() },
        interval: Duration::from_secs(10),
        recheck_interval: Duration::from_secs(2),
        jitter: 0.1,
        timeout: Duration::from_secs(1),
        healthy_threshold,
        unhealthy_threshold,
        on_unhealthy: OnUnhealthy::Retry,
        port: None,
    }
}

/// The health of an endpoint after each check: `+` succeeds, `-` fails. The result has a letter for each: unknown,
/// healthy, unhealthy, in upper case if the health has changed.
fn states(checks: &str, settings: &Settings) -> String {
    let health = Health::default();
    let letter = |check: char| {
        let shown = if check == '+' { Ok(()) } else { Err("it is ill".to_owned()) };
        let changed = health.note(&shown, settings).is_some();
        let letter = match health.state() {
            HealthState::Unknown => '?',
            HealthState::Healthy => 'h',
            HealthState::Unhealthy => 'u',
        };
        if changed { letter.to_ascii_uppercase() } else { letter }
    };
    checks.chars().map(letter).collect()
}

#[test]
fn the_first_check_decides_alone_and_thresholds_hold_from_then_on() {
    assert_eq!(states("+--+---+++", &settings(3, 2)), "HhUuuuuuuH");
    assert_eq!(states("-+-+++-", &settings(3, 1)), "UuuuuHU");
    assert_eq!(states("+-+-+--", &settings(1, 2)), "HhhhhhU", "only checks in a row count");
}

#[test]
fn an_endpoint_in_doubt_is_checked_again_soon() {
    let (health, settings) = (Health::default(), settings(2, 2));
    let steps = [
        (true, false),
        (false, true),
        (true, false),
        (false, true),
        (false, true),
        (true, true),
        (true, false),
    ];
    for (succeeds, in_doubt) in steps {
        health.note(&succeeds.then_some(()).ok_or_else(String::new), &settings);
        assert_eq!(health.is_in_doubt(), in_doubt);
    }
    assert_eq!(health.checks(), (4, 3));
}

#[test]
fn what_nobody_checks_any_more_is_not_known() {
    let health = Health::default();
    health.note(&Err("refused".to_owned()), &settings(1, 1));
    assert_eq!((health.is_unhealthy(), health.why().as_deref()), (true, Some("refused")));
    health.forget();
    assert_eq!((health.state(), health.why()), (HealthState::Unknown, None));
}

proptest! {
    #[test]
    fn jitter_shortens_an_interval_by_its_share_at_most(jitter in 0.0..=1.0, chance in 0.0..1.0) {
        let settings = Settings { jitter, ..settings(1, 1) };
        for (in_doubt, interval) in [(false, settings.interval), (true, settings.recheck_interval)] {
            let pause = pause(&settings, in_doubt, chance);
            prop_assert!(pause <= interval && pause >= interval.mul_f64((1.0 - jitter).max(0.0)));
        }
    }
}

#[test]
fn without_jitter_and_at_its_bounds_an_interval_is_exact() {
    let exact = Settings { jitter: 0.0, ..settings(1, 1) };
    assert_eq!(pause(&exact, false, 0.9), Duration::from_secs(10));
    assert_eq!(pause(&settings(1, 1), false, 0.0), Duration::from_secs(10));
    assert_eq!(pause(&settings(1, 1), true, 1.0), Duration::from_millis(1800));
}

/// The bytes as `protoc` encodes them.
#[test]
fn messages_are_those_of_the_protocol() {
    let request = HealthCheckRequest { service: "a.B".to_owned() };
    assert_eq!(framed(&request), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B'].as_slice());
    assert_eq!(framed(&HealthCheckRequest::default()), [0_u8; 5].as_slice());
    assert_eq!(HealthCheckResponse::decode([0x08, 1].as_slice()).map(|response| response.status), Ok(1));
}
