//! The state of the mocks. Each thread has its own, so that tests do not affect each other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::facts::Facts;
use super::fetch::Upstream;
use super::store::Entry;
use crate::imports::facts::{ClientCertificate, ResponseOrigin, TlsSession};
use crate::imports::fetch::{Error, InboundResponse, OutboundRequest};
use crate::imports::log::Level;
use crate::imports::random;

/// 2026-01-01T00:00:00Z, the time at the start of every test.
const BEGINNING: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

pub(super) struct State {
    pub(super) now: Duration,
    pub(super) lines: Vec<(Level, String)>,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) gauges: BTreeMap<String, f64>,
    pub(super) observations: BTreeMap<String, Vec<f64>>,
    pub(super) entries: BTreeMap<(String, String), Entry>,
    pub(super) store_fails: Option<crate::imports::store::Error>,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    pub(super) sent: Vec<OutboundRequest>,
    pub(super) data: BTreeMap<String, Vec<u8>>,
    pub(super) passwords: BTreeMap<String, String>,
    pub(super) zones: BTreeMap<String, i32>,
    pub(super) notes: BTreeMap<String, Vec<u8>>,
    pub(super) attributes: Option<Vec<(String, String)>>,
    pub(super) facts: Facts,
    pub(super) declines: bool,
    pub(super) costs: BTreeMap<String, u32>,
    pub(super) upstream_host: Option<String>,
    pub(super) observed_notes: BTreeMap<(u32, String), Vec<u8>>,
    pub(super) observed_headers: BTreeMap<(u32, String), Vec<Vec<u8>>>,
    pub(super) ending: Option<crate::Response>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            now: BEGINNING,
            lines: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            observations: BTreeMap::new(),
            entries: BTreeMap::new(),
            store_fails: None,
            upstreams: BTreeMap::new(),
            sent: Vec::new(),
            data: BTreeMap::new(),
            passwords: BTreeMap::new(),
            zones: BTreeMap::from([("UTC".to_owned(), 0)]),
            notes: BTreeMap::new(),
            attributes: None,
            facts: Facts::default(),
            declines: false,
            costs: BTreeMap::new(),
            upstream_host: None,
            observed_notes: BTreeMap::new(),
            observed_headers: BTreeMap::new(),
            ending: None,
        }
    }
}

pub(super) fn with_state<R>(use_it: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(use_it)
}

pub(crate) fn now() -> Duration {
    with_state(|state| state.now)
}

/// The gateway of one test. Making one resets the mocks of this thread.
pub struct Gateway {
    _private: (),
}

impl Gateway {
    /// A gateway at 2026-01-01T00:00:00Z, with an empty store, no upstreams, and every store space granted.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "`new` has an effect: it resets the thread's mocks")]
    pub fn new() -> Self {
        with_state(|state| *state = State::default());
        random::seed(0);
        Self { _private: () }
    }

    /// Sets the clock: seconds since 1970-01-01T00:00:00Z.
    pub fn set_unix_seconds(&self, seconds: u64) {
        with_state(|state| state.now = Duration::from_secs(seconds));
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        with_state(|state| state.now += duration);
    }

    /// Implements an upstream for `fetch`. An upstream that is not implemented is not granted.
    pub fn upstream(
        &self,
        name: impl Into<String>,
        answer: impl FnMut(&OutboundRequest) -> Result<InboundResponse, Error> + 'static,
    ) {
        with_state(|state| state.upstreams.insert(name.into(), Box::new(answer)));
    }

    /// Grants a file with these contents. Others are not granted.
    pub fn data(&self, name: impl Into<String>, contents: impl Into<Vec<u8>>) {
        with_state(|state| state.data.insert(name.into(), contents.into()));
    }

    /// Says which password a stored hash is of. Natively, hashes are not computed, and all others are of an unknown form.
    pub fn password(&self, hash: impl Into<String>, password: impl Into<String>) {
        with_state(|state| state.passwords.insert(hash.into(), password.into()));
    }

    /// Knows a time zone, whose clocks are always this many minutes ahead of UTC. Others than UTC are not known.
    pub fn time_zone(&self, name: impl Into<String>, minutes: i32) {
        with_state(|state| state.zones.insert(name.into(), minutes));
    }

    /// Leaves a note, as an earlier plugin of the exchange would.
    pub fn leave_note(&self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        with_state(|state| state.notes.insert(name.into(), value.into()));
    }

    /// The value of a note that was left.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<Vec<u8>> {
        with_state(|state| state.notes.get(name).cloned())
    }

    /// Samples the trace, so that attributes are kept.
    pub fn sample_trace(&self) {
        with_state(|state| state.attributes = Some(Vec::new()));
    }

    /// The attributes that were added to the span, in order.
    #[must_use]
    pub fn attributes(&self) -> Vec<(String, String)> {
        with_state(|state| state.attributes.clone().unwrap_or_default())
    }

    /// What [`facts::tls`](crate::facts::tls) says.
    pub fn tls(&self, session: TlsSession) {
        with_state(|state| state.facts.tls = Some(session));
    }

    /// What [`facts::certificate`](crate::facts::certificate) says.
    pub fn certificate(&self, certificate: ClientCertificate) {
        with_state(|state| state.facts.certificate = Some(certificate));
    }

    /// What [`facts::origin`](crate::facts::origin) says.
    pub fn origin(&self, origin: ResponseOrigin) {
        with_state(|state| state.facts.origin = Some(origin));
    }

    /// Whether the body of the response was declined.
    #[must_use]
    pub fn declined_body(&self) -> bool {
        with_state(|state| state.declines)
    }

    /// Leaves a note in the exchange at this position of what `observe` is given.
    pub fn observed_note(&self, exchange: u32, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        with_state(|state| state.observed_notes.insert((exchange, name.into()), value.into()));
    }

    /// Adds a header to the response of the exchange at this position, under its lower-case name.
    pub fn observed_header(&self, exchange: u32, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        with_state(|state| {
            state.observed_headers.entry((exchange, name.into())).or_default().push(value.into())
        });
    }

    /// The `Host` that was set for the upstream.
    #[must_use]
    pub fn upstream_host(&self) -> Option<String> {
        with_state(|state| state.upstream_host.clone())
    }

    /// The cost that was said for a policy.
    #[must_use]
    pub fn settled(&self, policy: &str) -> Option<u32> {
        with_state(|state| state.costs.get(policy).copied())
    }

    /// The response with which the exchange was ended.
    #[must_use]
    pub fn ended_with(&self) -> Option<crate::Response> {
        with_state(|state| state.ending.clone())
    }

    /// The requests that were fetched so far, in order.
    #[must_use]
    pub fn fetched(&self) -> Vec<OutboundRequest> {
        with_state(|state| state.sent.clone())
    }

    /// The lines that were logged so far, in order.
    #[must_use]
    pub fn logged(&self) -> Vec<(Level, String)> {
        with_state(|state| state.lines.clone())
    }

    /// The value of a counter; 0 if nothing was counted.
    #[must_use]
    pub fn counted(&self, name: &str) -> u64 {
        with_state(|state| state.counters.get(name).copied().unwrap_or_default())
    }

    /// The last value of a gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<f64> {
        with_state(|state| state.gauges.get(name).copied())
    }

    /// The values that were recorded in a histogram, in order.
    #[must_use]
    pub fn observed(&self, name: &str) -> Vec<f64> {
        with_state(|state| state.observations.get(name).cloned().unwrap_or_default())
    }

    /// Makes every later call of the store fail with this error; `None`: makes them succeed again.
    pub fn fail_store(&self, error: Option<crate::imports::store::Error>) {
        with_state(|state| state.store_fails = error);
    }
}
