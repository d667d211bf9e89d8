//! A binding in service.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use witgate_config::model::{LogLevel, OnFailure};
use witgate_proxy::pipeline::plugin::{
    Answer, BodyResult, Bucket, Call, CallFailure, Contracts, Decision, Destination, Function, Interest,
    Outcome, Piece, Plugin, PluginLimits, RequestOutcome, ResponseHead, ResponseOutcome,
};

use crate::call::{Shown, authentication, rate_limiting, routing, transformation};
use crate::imports::log::Pace;
use crate::load::text;
use crate::meter::{Meter, Phase};
use crate::pool::{Lease, Pool};
use crate::quarantine::{Health, Quarantine};
use crate::revert::Trial;
use crate::runtime::OnRevert;
use crate::witness::Beyond;

/// One version of one binding: a component with its settings, rights, instances and record.
pub struct Loaded {
    pub(crate) name: Arc<str>,
    pub(crate) version: u64,
    pub(crate) digest: [u8; 32],
    pub(crate) contracts: Contracts,
    pub(crate) interest: Interest,
    /// What comes in with `authenticate`.
    pub(crate) shown_to_authenticate: Shown,
    /// What comes in with the calls of each function that may be pure.
    pub(crate) shown: [Shown; Function::ALL.len()],
    /// Whether its answers may be used again.
    pub(crate) remember: bool,
    /// The phases in which the log was told that an answer cannot be used again, as bits.
    pub(crate) told: AtomicU8,
    pub(crate) on_failure: OnFailure,
    pub(crate) pool: Arc<Pool>,
    pub(crate) quarantine: Quarantine,
    pub(crate) trial: Trial,
    /// How many lines the gateway still writes about its failures.
    pub(crate) complaints: Pace,
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
        self.quarantine.health()
    }

    /// What was counted about the binding, its earlier versions included.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.pool.rights().meter
    }

    /// Makes a call. With an instance at hand it is over at once, and its state needs no place of its own.
    fn outcome<'a, T, F>(&'a self, call: impl FnOnce(Option<Lease<'a>>) -> F) -> Outcome<'a, T>
    where
        F: Future<Output = Result<T, CallFailure>> + 'a,
    {
        match self.pool.at_hand() {
            Some(lease) => {
                // Polled where it stays, for it holds all that is lowered into the guest.
                let answer = pin!(call(Some(lease))).as_mut().now_or_never();
                Outcome::over(answer.unwrap_or(Err(CallFailure::Unavailable)))
            }
            None => Outcome::waiting(call(None)),
        }
    }

    /// A call ran, good or bad.
    pub(crate) fn called(&self, phase: Phase, time: Duration, failure: Option<CallFailure>) {
        let meter = self.meter();
        meter.called(phase, time);
        if let Some(failure) = failure {
            meter.failed(failure);
        }
        if self.trial.note(failure.is_some()) {
            self.ask_for_reversion();
        }
    }

    /// A call could not even be made.
    pub(crate) fn not_called(&self, failure: CallFailure) {
        self.meter().failed(failure);
    }

    /// The plugin turned a request away.
    pub(crate) fn turned_away(&self) {
        self.meter().refused();
    }

    /// The binding was taken out of service.
    pub(crate) fn rests(&self) {
        self.meter().quarantined();
        self.complain(LogLevel::Error, "it failed too often and rests");
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

    fn ask_for_reversion(&self) {
        self.meter().reverted();
        self.complain(LogLevel::Error, "its new version fails too often");
        (self.on_revert)(&self.name, self.version);
    }
}

impl Plugin for Loaded {
    fn binding(&self) -> &Arc<str> {
        &self.name
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn contracts(&self) -> Contracts {
        self.contracts
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    fn limits(&self) -> PluginLimits {
        let budget = &self.pool.rights().budget;
        PluginLimits { body: budget.body_limit, context: budget.context_limit }
    }

    fn remembers(&self) -> bool {
        self.remember
    }

    fn answered_again(&self) {
        self.meter().answered_again();
    }

    fn may_route_to(&self, upstream: &str) -> bool {
        let granted = self.pool.rights().grants.route_to.iter().any(|granted| granted == upstream);
        if !granted {
            self.meter().grant_refused();
        }
        granted
    }

    fn reject_answer(&self, reason: &str) {
        self.meter().failed(CallFailure::Output);
        self.complain(LogLevel::Warn, &format!("its answer cannot be used: {reason}"));
        if self.trial.correct() {
            self.ask_for_reversion();
        }
    }

    fn authenticate<'a>(&'a self, call: Call<'a>, remember: bool) -> Outcome<'a, Decision> {
        self.outcome(|lease| authentication::authenticate(self, lease, call, remember))
    }

    fn draw<'a>(&'a self, call: Call<'a>) -> Outcome<'a, Answer<Vec<Bucket>>> {
        self.outcome(|lease| rate_limiting::draw(self, lease, call))
    }

    fn route<'a>(&'a self, call: Call<'a>) -> Outcome<'a, Answer<Option<Destination>>> {
        self.outcome(|lease| routing::route(self, lease, call))
    }

    fn transform_request<'a>(&'a self, call: Call<'a>) -> Outcome<'a, Answer<RequestOutcome>> {
        self.outcome(|lease| transformation::request(self, lease, call))
    }

    fn transform_request_body<'a>(&'a self, call: Call<'a>, piece: Piece) -> Outcome<'a, BodyResult> {
        self.outcome(|lease| transformation::request_body(self, lease, call, piece))
    }

    fn transform_response<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        context: Bytes,
    ) -> Outcome<'a, Answer<ResponseOutcome>> {
        self.outcome(|lease| transformation::response_head(self, lease, call, response, context))
    }

    fn transform_response_body<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        piece: Piece,
    ) -> Outcome<'a, BodyResult> {
        self.outcome(|lease| transformation::response_body(self, lease, call, response, piece))
    }
}
