//! Mock of the interface `observed`: what a test says of each exchange.

use super::gateway::with_state;

pub(crate) fn note(exchange: u32, name: &str) -> Option<Vec<u8>> {
    with_state(|state| state.observed_notes.get(&(exchange, name.to_owned())).cloned())
}

pub(crate) fn response_header(exchange: u32, name: &str) -> Vec<Vec<u8>> {
    with_state(|state| state.observed_headers.get(&(exchange, name.to_owned())).cloned().unwrap_or_default())
}
