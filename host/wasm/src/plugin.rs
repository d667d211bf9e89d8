//! A binding in service.

mod contracts;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use witgate_config::model::{LogLevel, OnFailure};
use witgate_exchange::contracts::{CallFailure, CallResult, Contracts, Function, Interest, Phase};

use crate::background::Background;
use crate::call::DeclaredInputs;
use crate::imports::log::{LEFT_OUT, Pace, Pacing};
use crate::input_tracker::Beyond;
use crate::load::{next_number, text};
use crate::meter::Meter;
use crate::pool::{Lease, Pool};
use crate::quarantine::{Admission, Cause, Health, Quarantine};
use crate::record::{Calls, Record};
use crate::revert::{Condemned, Trial};
use crate::runtime::OnRevert;

/// One version of one binding: a component with its settings, rights, instances and record.
pub struct Loaded {
    pub(crate) name: Arc<str>,
    pub(crate) version: u64,
    /// Order of going into service: of all live versions of a binding, the one with the highest number is the
    /// latest.
    pub(crate) turn: AtomicU64,
    pub(crate) digest: [u8; 32],
    pub(crate) contracts: Contracts,
    /// Whether it may say after a request what its draws have cost.
    pub(crate) settles: bool,
    pub(crate) interest: Interest,
    /// The parts of the head that are passed to `authenticate`.
    pub(crate) shown_to_authenticate: DeclaredInputs,
    /// The parts of the head that are passed to each function that may be pure.
    pub(crate) shown: [DeclaredInputs; Function::ALL.len()],
    /// Whether its results may be remembered.
    pub(crate) remember: bool,
    /// The phases for which the log says already that a result cannot be remembered, one bit for each.
    pub(crate) told: AtomicU16,
    pub(crate) on_failure: OnFailure,
    pub(crate) pool: Arc<Pool>,
    /// The successes and failures of its calls.
    pub(crate) record: Record,
    pub(crate) quarantine: Quarantine,
    pub(crate) trial: Trial,
    /// Rate limit of the log lines about failures of this binding.
    pub(crate) complaints: Pace,
    /// Rate limit of the log lines about quarantine and revert. Separate, so that failures do not suppress them.
    pub(crate) announcements: Pace,
    pub(crate) on_revert: OnRevert,
    /// Calls that no request waits for.
    pub(crate) background: Background,
}

impl Loaded {
    /// Lines per second that the gateway writes about failures of one binding.
    pub(crate) const COMPLAINTS: u32 = 5;

    /// SHA-256 of the file.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether the binding is in service, in quarantine, or being probed.
    pub fn health(&self) -> Health {
        self.quarantine.health(Instant::now())
    }

    /// The latest calls, at most a thousand: what the next version is compared with.
    pub fn latest_calls(&self) -> Calls {
        self.record.latest()
    }

    /// Puts this version on trial, because it replaces the version whose latest calls are `before`. Applies also
    /// if it was in service before.
    pub fn begin_trial(&self, before: Calls) {
        self.trial.begin(before, self.record.made(), Instant::now());
    }

    /// Whether it is on trial.
    pub fn is_on_trial(&self) -> bool {
        self.trial.is_under_way(self.record.made(), Instant::now())
    }

    /// Puts this version back in service in place of a version that was reverted. It is not on trial, because
    /// there is no version left to revert to, and not in quarantine. Its instances and remembered results stay
    /// valid.
    pub fn put_back(&self) {
        self.turn.store(next_number(), Ordering::Relaxed);
        self.trial.end();
        self.quarantine.put_back();
    }

    /// Whether the gateway may revert to this version: it was not itself to be reverted, is not in quarantine, and
    /// most of its latest calls, if there were any, succeeded. If it is still on trial, it must have served calls
    /// and failed no more often than the version before it.
    pub fn is_good(&self) -> bool {
        let now = Instant::now();
        self.trial.is_good(self.record.made(), now)
            && self.quarantine.health(now) == Health::Serving
            && !self.record.mostly_failed()
    }

    /// Whether this version is in service from now on. Only then is its `tick` called.
    pub fn in_service(self: &Arc<Self>, is_in_service: bool) {
        if self.contracts.tick {
            self.background.tick(self, is_in_service);
        }
    }

    /// Logs that a contract is not called because there is no thread for it.
    pub(crate) fn no_thread(&self, contract: &str, error: &std::io::Error) {
        self.announce(
            LogLevel::Error,
            &format!("its `{contract}` is not called: there is no thread: {error}"),
        );
    }

    /// The counters of the binding, including those of its earlier versions.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.pool.rights().meter
    }

    /// Makes a call. If an idle instance is there and the call need not wait, the result is ready on return and no
    /// future is boxed.
    fn outcome<'a, T, F>(&'a self, call: impl FnOnce(Option<Lease<'a>>) -> F) -> CallResult<'a, T>
    where
        F: Future<Output = Result<T, CallFailure>> + 'a,
    {
        match self.pool.at_hand() {
            Some(lease) => {
                // Polled in place, because the future holds all parameters of the call.
                let answer = pin!(call(Some(lease))).as_mut().now_or_never();
                CallResult::over(answer.unwrap_or(Err(CallFailure::Unavailable)))
            }
            None => CallResult::waiting(call(None)),
        }
    }

    /// Counts a call that ran, with a result or a failure.
    pub(crate) fn called(&self, phase: Phase, time: Duration, failure: Option<CallFailure>) {
        let meter = self.meter();
        meter.called(phase, time);
        if let Some(failure) = failure {
            meter.failed(failure);
        }
    }

    /// Counts a call for quarantine and trial: it returned a result, or it failed after this much CPU time.
    pub(crate) fn judge(
        &self,
        phase: Phase,
        admission: Admission<'_>,
        failed: Option<Duration>,
        now: Instant,
    ) {
        self.record.call(phase);
        let Some(burnt) = failed else {
            if let Some(lasted) = admission.succeeded(now) {
                self.announce(
                    LogLevel::Warn,
                    &format!("it left quarantine after {lasted:.1?}: a probe succeeded"),
                );
            }
            return;
        };
        let made = self.record.failure();
        self.fail_on_trial(made, admission.is_probe(), now);
        self.quarantined(admission.failed(made, burnt, now));
    }

    /// Counts a call that could not be made.
    pub(crate) fn not_called(&self, failure: CallFailure) {
        self.meter().failed(failure);
    }

    /// Counts a request that the plugin refused.
    pub(crate) fn turned_away(&self) {
        self.meter().refused();
    }

    /// Counts and logs the opening of a quarantine, if there is a cause.
    fn quarantined(&self, cause: Option<Cause>) {
        if let Some(cause) = cause {
            self.meter().quarantined();
            self.announce(LogLevel::Warn, &format!("it is in quarantine: {cause}"));
        }
    }

    /// Logs why a call failed: with the message of its panic, if it has printed one.
    pub(crate) fn explain(&self, phase: Phase, panic: Option<String>, error: &wasmtime::Error) {
        let why = panic.unwrap_or_else(|| text(error));
        self.complain(LogLevel::Warn, &format!("its {} call failed: {why}", phase.as_str()));
    }

    /// Logs, once for each phase, why a result is not remembered although the plugin declares the function pure.
    pub(crate) fn not_pure(&self, phase: Phase, function: &str, beyond: &Beyond<'_>) {
        let bit = 1 << phase as u16;
        if !self.remember || beyond.is_meant() || self.told.load(Ordering::Relaxed) & bit != 0 {
            return;
        }
        let message = format!(
            "its results of `{function}` are not remembered: the call used {beyond}, which the plugin does not declare"
        );
        if self.complain(LogLevel::Warn, &message) {
            self.told.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Writes a line if the rate limit allows; returns whether it did.
    fn complain(&self, level: LogLevel, message: &str) -> bool {
        self.write(&self.complaints, level, message)
    }

    /// Writes a line about quarantine or revert, which has a rate limit of its own.
    fn announce(&self, level: LogLevel, message: &str) {
        self.write(&self.announcements, level, message);
    }

    /// Writes a line if the rate limit allows; the last one that it allows says so. Returns whether it was written.
    fn write(&self, pace: &Pace, level: LogLevel, message: &str) -> bool {
        let pacing = pace.admit();
        let journal = &self.pool.rights().journal;
        match pacing {
            Pacing::Free => journal.write(level, &self.name, message),
            Pacing::Last => journal.write(level, &self.name, &format!("{message}{LEFT_OUT}")),
            Pacing::Over => {}
        }
        pacing != Pacing::Over
    }

    /// Counts a failed call for the trial; requests the revert if that was one failure too many.
    fn fail_on_trial(&self, made: u64, probe: bool, now: Instant) {
        let Some(Condemned { calls, before, first }) = self.trial.failed(made, probe, now) else { return };
        if first {
            self.meter().reverted();
            let message = format!(
                "its new version fails too often: {} of {} calls; the version before it failed {} of its latest {}",
                calls.failed, calls.made, before.failed, before.made
            );
            self.announce(LogLevel::Error, &message);
        }
        (self.on_revert)(&self.name, self.version);
    }
}
