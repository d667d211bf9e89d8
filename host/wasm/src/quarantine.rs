//! Quarantine of a binding whose killed calls use too much CPU time, or nearly all of whose calls fail: calls fail
//! immediately, and after a while one at a time probes whether the binding has recovered.
//!
//! The purpose is to protect the core. A call that traps after a few microseconds costs the gateway less than
//! refusing it would cost the users, so failures alone open a quarantine only when nearly no call succeeds.
//!
//! The window keeps counting while the quarantine is open, and closing the quarantine does not reset it. So over
//! any window, killed calls use at most their share of a core plus what was in flight, even if probes succeed by
//! chance.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use witgate_config::model;

use crate::record::Calls;

/// Number of parts of the window. Counts leave the window one part at a time.
const PARTS: u64 = 10;

/// The quarantine of one binding, shared by all cores. While it is closed, a call reads one number.
pub(crate) struct Quarantine {
    /// `None`: quarantine is switched off.
    config: Option<model::Quarantine>,
    begun: Instant,
    /// Nanoseconds since `begun` until which no call is made; 0: the binding is in service.
    resting_until: AtomicU64,
    /// Whether a probe is in flight.
    probing: AtomicBool,
    /// Written by calls that failed, and by probes.
    window: Mutex<Window>,
}

/// Permission to make one call.
pub(crate) struct Admission<'a> {
    quarantine: &'a Quarantine,
    probe: bool,
}

/// The state of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// In service.
    Serving,
    /// Calls fail without being made.
    Resting,
    /// The rest period is over; one call at a time is made until one succeeds.
    Probing,
}

/// Why a quarantine was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Failed calls used this much CPU time within the window.
    Cpu { burnt: Duration, window: Duration },
    /// This many of the calls within the window failed.
    Failures { calls: Calls, window: Duration },
}

/// A quarantine that is open.
pub(crate) struct Open {
    /// The cause.
    pub(crate) cause: Cause,
    /// How long it has been open.
    pub(crate) lasted: Duration,
}

/// The counts of the window.
#[derive(Default)]
struct Window {
    parts: [Part; PARTS as usize],
    /// The total number of calls up to which the parts have counted.
    made: u64,
    /// Since when the quarantine is open, and why.
    open: Option<(Instant, Cause)>,
}

#[derive(Default, Clone, Copy)]
struct Part {
    /// The number of the part, counted from the creation of the quarantine.
    number: u64,
    calls: Calls,
    burnt: Duration,
}

impl Quarantine {
    pub(crate) fn new(config: Option<model::Quarantine>, begun: Instant) -> Self {
        Quarantine {
            config,
            begun,
            resting_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            window: Mutex::default(),
        }
    }

    /// Permission to make a call; `None` during the rest period, or while another call probes the binding.
    pub(crate) fn admit(&self, now: Instant) -> Option<Admission<'_>> {
        let until = self.resting_until.load(Ordering::Acquire);
        if until == 0 {
            return Some(Admission { quarantine: self, probe: false });
        }
        let free = self.since_begun(now) >= until && !self.probing.swap(true, Ordering::AcqRel);
        free.then_some(Admission { quarantine: self, probe: true })
    }

    /// The current state of the binding.
    pub(crate) fn health(&self, now: Instant) -> Health {
        match self.resting_until.load(Ordering::Acquire) {
            0 => Health::Serving,
            until if self.since_begun(now) < until => Health::Resting,
            _ => Health::Probing,
        }
    }

    /// Why and for how long the quarantine is open; `None` if it is not.
    pub(crate) fn open(&self, now: Instant) -> Option<Open> {
        let (since, cause) = self.lock().open?;
        Some(Open { cause, lasted: now.saturating_duration_since(since) })
    }

    /// Counts a call as failed whose result was counted as a success and then rejected. `made` is the number of
    /// calls so far. Returns the cause if this opens the quarantine.
    pub(crate) fn rejected(&self, made: u64, now: Instant) -> Option<Cause> {
        self.failed(made, Duration::ZERO, now)
    }

    /// Ends the quarantine because the binding is put back in service. The counts of the window stay.
    pub(crate) fn put_back(&self) {
        let mut window = self.lock();
        window.open = None;
        self.resting_until.store(0, Ordering::Release);
    }

    /// Counts a call that failed after this much CPU time. `made` is the number of calls so far. Returns the cause
    /// if this opens the quarantine.
    fn failed(&self, made: u64, burnt: Duration, now: Instant) -> Option<Cause> {
        let config = self.config.as_ref()?;
        let mut window = self.lock();
        let sum = window.failed(made, burnt, self.part(config, now));
        if window.open.is_some() {
            return None;
        }
        let cause = sum.opens(config)?;
        window.open = Some((now, cause));
        self.rest(config, now);
        Some(cause)
    }

    fn probe_failed(&self, made: u64, burnt: Duration, now: Instant) {
        let Some(config) = &self.config else { return };
        let mut window = self.lock();
        window.failed(made, burnt, self.part(config, now));
        if window.open.is_some() {
            self.rest(config, now);
        }
    }

    /// Ends the quarantine; returns how long it was open.
    fn close(&self, now: Instant) -> Option<Duration> {
        let mut window = self.lock();
        let (since, _) = window.open.take()?;
        self.resting_until.store(0, Ordering::Release);
        Some(now.saturating_duration_since(since))
    }

    /// Begins a rest period. The window must be locked, so that it is marked as open whenever the binding rests.
    fn rest(&self, config: &model::Quarantine, now: Instant) {
        let until = self.since_begun(now).saturating_add(nanoseconds(config.rest)).max(1);
        self.resting_until.store(until, Ordering::Release);
    }

    /// The number of the part of the window that contains a moment; the first part has number 1.
    fn part(&self, config: &model::Quarantine, now: Instant) -> u64 {
        let length = (nanoseconds(config.window) / PARTS).max(1);
        self.since_begun(now) / length + 1
    }

    fn since_begun(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.begun))
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// Whether the call probes a binding in quarantine.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// The call succeeded. Returns how long the quarantine was open if this closes it.
    pub(crate) fn succeeded(self, now: Instant) -> Option<Duration> {
        if self.probe { self.quarantine.close(now) } else { None }
    }

    /// The call failed after this much CPU time. `made` is the number of calls so far. Returns the cause if this
    /// opens the quarantine.
    pub(crate) fn failed(self, made: u64, burnt: Duration, now: Instant) -> Option<Cause> {
        if self.probe {
            self.quarantine.probe_failed(made, burnt, now);
            return None;
        }
        self.quarantine.failed(made, burnt, now)
    }
}

/// A probe that ends without a verdict, e.g. because its client went away, allows the next probe.
impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.quarantine.probing.store(false, Ordering::Release);
        }
    }
}

impl Window {
    /// Counts a failure, and all successes since the last failure. When those succeeded is not known, so they are
    /// counted in the current part, in the plugin's favour. Returns the sum over the window.
    fn failed(&mut self, made: u64, burnt: Duration, number: u64) -> Part {
        let now = &mut self.parts[(number % PARTS) as usize];
        if now.number != number {
            *now = Part { number, ..Part::default() };
        }
        now.calls.made += made.saturating_sub(self.made);
        now.calls.failed += 1;
        now.burnt += burnt;
        self.made = self.made.max(made);
        let mut sum = Part { number, ..Part::default() };
        for part in self.parts.iter().filter(|part| part.number + PARTS > number) {
            sum.calls.made += part.calls.made;
            sum.calls.failed += part.calls.failed;
            sum.burnt += part.burnt;
        }
        sum
    }
}

impl Part {
    /// The cause for opening a quarantine, if these counts are one.
    fn opens(&self, config: &model::Quarantine) -> Option<Cause> {
        let (calls, burnt, window) = (self.calls, self.burnt, config.window);
        if burnt.as_secs_f64() >= window.as_secs_f64() * config.share {
            return Some(Cause::Cpu { burnt, window });
        }
        let nearly_all = calls.failed.saturating_mul(10) >= calls.made.saturating_mul(9);
        (calls.made >= u64::from(config.min_calls) && nearly_all).then_some(Cause::Failures { calls, window })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Cpu { burnt, window } => {
                write!(formatter, "failed calls used {burnt:.2?} of CPU time within {window:?}")
            }
            Cause::Failures { calls: Calls { made, failed }, window } => {
                write!(formatter, "{failed} of {made} calls within {window:?} failed")
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(5);

    /// A binding whose calls are made one after the other, with a simulated clock.
    struct Scene {
        quarantine: Quarantine,
        now: Instant,
        made: u64,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            let config =
                model::Quarantine { share: 0.5, window: Duration::from_secs(10), min_calls: 20, rest: REST };
            Scene { quarantine: Quarantine::new(Some(config), now), now, made: 0 }
        }

        fn good(&mut self) -> Option<Duration> {
            self.made += 1;
            self.quarantine.admit(self.now).expect("an admission").succeeded(self.now)
        }

        fn bad(&mut self, burnt: Duration) -> Option<Cause> {
            self.made += 1;
            self.quarantine.admit(self.now).expect("an admission").failed(self.made, burnt, self.now)
        }

        fn trap(&mut self) -> Option<Cause> {
            self.bad(Duration::from_micros(10))
        }

        fn passes(&mut self, time: Duration) {
            self.now += time;
        }

        fn health(&self) -> Health {
            self.quarantine.health(self.now)
        }

        /// Fails calls until the quarantine is open.
        fn opened() -> Self {
            let mut scene = Scene::new();
            assert!((1..20).all(|_| scene.trap().is_none()));
            assert!(scene.trap().is_some());
            scene
        }
    }

    #[test]
    fn a_binding_that_always_fails_is_put_in_quarantine_after_the_least_number_of_calls() {
        let mut scene = Scene::new();
        let causes: Vec<_> = (1..=20).map(|_| scene.trap()).collect();
        let calls = Calls { made: 20, failed: 20 };
        assert_eq!(causes[19], Some(Cause::Failures { calls, window: Duration::from_secs(10) }));
        assert!(causes[..19].iter().all(Option::is_none));
        assert_eq!(scene.health(), Health::Resting);
        assert!(scene.quarantine.admit(scene.now).is_none());
        let told = causes[19].map(|cause| cause.to_string());
        assert_eq!(told.as_deref(), Some("20 of 20 calls within 10s failed"));
    }

    #[test]
    fn cheap_failures_of_one_call_in_two_or_ten_open_nothing() {
        for nth in [2, 3, 10, 100] {
            let mut scene = Scene::new();
            for call in 1..50_000_u64 {
                scene.passes(Duration::from_micros(300));
                if call % nth == 0 { assert_eq!(scene.trap(), None) } else { assert_eq!(scene.good(), None) }
            }
        }
    }

    #[test]
    fn calls_in_flight_when_it_opens_neither_open_it_again_nor_prolong_the_rest() {
        let mut scene = Scene::new();
        let (late_good, late_bad) =
            (scene.quarantine.admit(scene.now).unwrap(), scene.quarantine.admit(scene.now).unwrap());
        for _ in 0..20 {
            scene.made += 1;
            let admission = scene.quarantine.admit(scene.now).unwrap();
            admission.failed(scene.made, Duration::ZERO, scene.now);
        }
        scene.now += REST - Duration::from_secs(1);
        assert_eq!(late_bad.failed(21, Duration::from_secs(9), scene.now), None);
        assert_eq!(late_good.succeeded(scene.now), None);
        assert_eq!(scene.quarantine.health(scene.now), Health::Resting, "it was no probe");
        scene.now += Duration::from_secs(1);
        assert_eq!(scene.quarantine.health(scene.now), Health::Probing);
    }

    #[test]
    fn a_few_bad_calls_among_good_ones_are_no_outage() {
        let mut scene = Scene::new();
        for _ in 0..10 {
            assert_eq!(scene.good(), None);
            scene.passes(Duration::from_secs(1));
        }
        assert!((0..30).all(|_| scene.trap().is_none()), "30 of 40 calls");
        assert_eq!(scene.health(), Health::Serving);
    }

    #[test]
    fn a_version_that_was_good_for_long_is_put_in_quarantine_within_a_window_and_a_part() {
        let mut scene = Scene::new();
        (0..100_000).for_each(|_| assert_eq!(scene.good(), None));
        let begun = scene.now;
        while scene.trap().is_none() {
            scene.passes(Duration::from_millis(100));
        }
        assert!(scene.now - begun <= Duration::from_secs(11), "{:?}", scene.now - begun);
    }

    #[test]
    fn failures_that_left_the_window_count_no_more() {
        let mut scene = Scene::new();
        for _ in 0..100 {
            scene.passes(Duration::from_secs(1));
            assert_eq!(scene.trap(), None, "ten failures in any ten seconds");
        }
    }

    #[test]
    fn cpu_time_of_calls_that_failed_opens_it_whatever_the_others_do() {
        let mut scene = Scene::new();
        let mut cause = None;
        let mut loops = 0;
        while cause.is_none() {
            (0..9).for_each(|_| assert_eq!(scene.good(), None));
            cause = scene.bad(Duration::from_millis(20));
            loops += 1;
            scene.passes(Duration::from_millis(30));
        }
        assert_eq!(loops, 250, "half of ten seconds");
        assert_eq!(
            cause.map(|cause| cause.to_string()).as_deref(),
            Some("failed calls used 5.00s of CPU time within 10s")
        );
    }

    #[test]
    fn less_than_the_share_opens_nothing_for_ever() {
        let mut scene = Scene::new();
        for _ in 0..10_000 {
            (0..9).for_each(|_| assert_eq!(scene.good(), None));
            assert_eq!(scene.bad(Duration::from_millis(20)), None);
            scene.passes(Duration::from_millis(50));
        }
    }

    #[test]
    fn one_probe_at_a_time_and_the_first_good_one_closes_it() {
        let mut scene = Scene::opened();
        assert!(scene.quarantine.admit(scene.now).is_none());
        scene.passes(REST);
        assert_eq!(scene.health(), Health::Probing);
        let probe = scene.quarantine.admit(scene.now).unwrap();
        assert!(probe.is_probe());
        assert!(scene.quarantine.admit(scene.now).is_none(), "a second probe waits for the first");
        drop(probe);
        assert_eq!(scene.trap(), None, "it was open already");
        assert_eq!(scene.health(), Health::Resting, "a probe that fails begins another rest");
        scene.passes(REST);
        assert_eq!(scene.good(), Some(2 * REST));
        assert_eq!(scene.health(), Health::Serving);
        assert!(scene.quarantine.open(scene.now).is_none());
    }

    #[test]
    fn a_probe_that_happens_to_succeed_does_not_make_it_forget_the_cpu_time() {
        let Scene { quarantine, now: begun, .. } = Scene::new();
        let (mut now, mut burnt, mut calls) = (begun, Duration::ZERO, 0_u64);
        // Each call takes 1 ms, but every tenth takes 20 ms and is killed: without quarantine, two thirds of the
        // core.
        while now - begun < Duration::from_secs(600) {
            let Some(admission) = quarantine.admit(now) else {
                now += Duration::from_millis(1);
                continue;
            };
            calls += 1;
            if calls.is_multiple_of(10) {
                let took = Duration::from_millis(20);
                (now, burnt) = (now + took, burnt + took);
                admission.failed(calls, took, now);
            } else {
                now += Duration::from_millis(1);
                admission.succeeded(now);
            }
        }
        let share = burnt.as_secs_f64() / 600.0;
        assert!(share < 0.56, "{share} of a core, with parts of a tenth of the window");
        assert!(calls > 60_000, "and yet it served: {calls} calls");
    }

    #[test]
    fn a_rejected_answer_is_a_failure() {
        let mut scene = Scene::new();
        let mut cause = None;
        for made in 1..=20 {
            scene.good();
            cause = scene.quarantine.rejected(made, scene.now);
        }
        assert!(cause.is_some());
        scene.passes(REST);
        assert!(scene.good().is_some(), "the probe answers, and closes it");
        assert!(scene.quarantine.rejected(scene.made, scene.now).is_some(), "its answer is rejected");
        assert_eq!(scene.health(), Health::Resting);
    }

    #[test]
    fn what_is_put_back_in_service_serves_at_once() {
        let mut scene = Scene::opened();
        scene.quarantine.put_back();
        assert_eq!((scene.health(), scene.good()), (Health::Serving, None));
    }

    #[test]
    fn switched_off_it_never_opens() {
        let now = Instant::now();
        let mut scene = Scene { quarantine: Quarantine::new(None, now), now, made: 0 };
        assert!((0..1000).all(|_| scene.bad(Duration::from_secs(1)).is_none()));
    }
}
