//! Mock of the interface `metrics`: keeps the values.

use super::gateway::with_state;

pub(crate) fn count(name: &str, amount: u64) {
    with_state(|state| *state.counters.entry(name.to_owned()).or_default() += amount);
}

pub(crate) fn gauge(name: &str, value: f64) {
    with_state(|state| state.gauges.insert(name.to_owned(), value));
}

pub(crate) fn observe(name: &str, value: f64) {
    with_state(|state| state.observations.entry(name.to_owned()).or_default().push(value));
}
