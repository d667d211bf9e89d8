//! A binding in service.

mod contracts;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use witgate_config::model::{LogLevel, OnFailure};
use witgate_proxy::contracts::{CallFailure, CallResult, Contracts, Function, Interest, Phase};

use crate::call::DeclaredInputs;
use crate::imports::log::Pace;
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
    /// Of the versions of a binding that are alive, the one with the highest number was put in service last.
    pub(crate) turn: AtomicU64,
    pub(crate) digest: [u8; 32],
    pub(crate) contracts: Contracts,
    pub(crate) interest: Interest,
    /// What comes in with `authenticate`.
    pub(crate) shown_to_authenticate: DeclaredInputs,
    /// What comes in with the calls of each function that may be pure.
    pub(crate) shown: [DeclaredInputs; Function::ALL.len()],
    /// Whether its answers may be used again.
    pub(crate) remember: bool,
    /// The phases in which the log was told that an answer cannot be used again, as bits.
    pub(crate) told: AtomicU8,
    pub(crate) on_failure: OnFailure,
    pub(crate) pool: Arc<Pool>,
    /// How its calls went.
    pub(crate) record: Record,
    pub(crate) quarantine: Quarantine,
    pub(crate) trial: Trial,
    /// How many lines the gateway still writes about its failures.
    pub(crate) complaints: Pace,
    /// How many lines it still writes about what became of it for them. Apart, so that none is lost among the failures.
    pub(crate) announcements: Pace,
    pub(crate) on_revert: OnRevert,
}

impl Loaded {
    /// Lines a second that the gateway writes about failures of one binding.
    pub(crate) const COMPLAINTS: u32 = 5;

    /// SHA-256 of the file.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether it serves, rests or is being probed.
    pub fn health(&self) -> Health {
        self.quarantine.health(Instant::now())
    }

    /// The latest calls, at most a thousand: what the next version is judged against.
    pub fn latest_calls(&self) -> Calls {
        self.record.latest()
    }

    /// It is put in service in place of another version, whose latest calls these are: from now on it is on trial, also
    /// if it was in service before.
    pub fn begin_trial(&self, before: Calls) {
        self.trial.begin(before, self.record.made(), Instant::now());
    }

    /// Whether it is on trial.
    pub fn is_on_trial(&self) -> bool {
        self.trial.is_under_way(self.record.made(), Instant::now())
    }

    /// It is put back in service in place of a version that was taken back, and begins anew: neither on trial, for there
    /// is nothing to go back to, nor in quarantine. Its instances, and what was remembered of its answers, are as good as
    /// before.
    pub fn put_back(&self) {
        self.turn.store(next_number(), Ordering::Relaxed);
        self.trial.end();
        self.quarantine.put_back();
    }

    /// Whether it may be gone back to: it was not to be taken back, has answered calls no worse than the version before it
    /// if it is on trial still, is not in quarantine, and has answered most of its latest calls, if there were any. The
    /// last two hold whether it was ever on trial or not.
    pub fn is_good(&self) -> bool {
        let now = Instant::now();
        self.trial.is_good(self.record.made(), now)
            && self.quarantine.health(now) == Health::Serving
            && !self.record.mostly_failed()
    }

    /// What was counted about the binding, its earlier versions included.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.pool.rights().meter
    }

    /// Makes a call. With an instance at hand it is over at once, and its state needs no place of its own.
    fn outcome<'a, T, F>(&'a self, call: impl FnOnce(Option<Lease<'a>>) -> F) -> CallResult<'a, T>
    where
        F: Future<Output = Result<T, CallFailure>> + 'a,
    {
        match self.pool.at_hand() {
            Some(lease) => {
                // Polled where it stays, for it holds all that is lowered into the guest.
                let answer = pin!(call(Some(lease))).as_mut().now_or_never();
                CallResult::over(answer.unwrap_or(Err(CallFailure::Unavailable)))
            }
            None => CallResult::waiting(call(None)),
        }
    }

    /// A call ran, good or bad.
    pub(crate) fn called(&self, phase: Phase, time: Duration, failure: Option<CallFailure>) {
        let meter = self.meter();
        meter.called(phase, time);
        if let Some(failure) = failure {
            meter.failed(failure);
        }
    }

    /// A call says something about the plugin: it was answered, or failed after so much CPU time.
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
                    &format!("it left quarantine after {lasted:.1?}: a probe was answered"),
                );
            }
            return;
        };
        let made = self.record.failure();
        self.fail_on_trial(made, admission.is_probe(), now);
        self.quarantined(admission.failed(made, burnt, now));
    }

    /// A call could not even be made.
    pub(crate) fn not_called(&self, failure: CallFailure) {
        self.meter().failed(failure);
    }

    /// The plugin turned a request away.
    pub(crate) fn turned_away(&self) {
        self.meter().refused();
    }

    /// A quarantine was opened, if there is a cause.
    fn quarantined(&self, cause: Option<Cause>) {
        if let Some(cause) = cause {
            self.meter().quarantined();
            self.announce(LogLevel::Warn, &format!("it is in quarantine: {cause}"));
        }
    }

    /// Tells the log why a call failed.
    pub(crate) fn explain(&self, phase: Phase, error: &wasmtime::Error) {
        self.complain(LogLevel::Warn, &format!("its {} call failed: {}", phase.as_str(), text(error)));
    }

    /// Tells the log, once for each phase, why an answer is not used again although the plugin says that it may be.
    pub(crate) fn not_pure(&self, phase: Phase, function: &str, beyond: &Beyond<'_>) {
        let bit = 1 << phase as u8;
        if !self.remember || beyond.is_meant() || self.told.load(Ordering::Relaxed) & bit != 0 {
            return;
        }
        let message = format!(
            "its answers to `{function}` are not used again where they could be: it used {beyond} without naming it"
        );
        if self.complain(LogLevel::Warn, &message) {
            self.told.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Writes a line, if the pace allows; says whether it did.
    fn complain(&self, level: LogLevel, message: &str) -> bool {
        let admitted = self.complaints.admit();
        if admitted {
            self.pool.rights().journal.write(level, &self.name, message);
        }
        admitted
    }

    /// Writes a line that must not be lost among complaints.
    fn announce(&self, level: LogLevel, message: &str) {
        if self.announcements.admit() {
            self.pool.rights().journal.write(level, &self.name, message);
        }
    }

    /// A call failed: asks to be taken back if it is on trial and that was one failure too many.
    fn fail_on_trial(&self, made: u64, probe: bool, now: Instant) {
        let Some(Condemned { calls, before, first }) = self.trial.failed(made, probe, now) else { return };
        if first {
            self.meter().reverted();
            let message = format!(
                "its new version fails too often: {} of {} calls, of the version before {} of its latest {}",
                calls.failed, calls.made, before.failed, before.made
            );
            self.announce(LogLevel::Error, &message);
        }
        (self.on_revert)(&self.name, self.version);
    }
}
