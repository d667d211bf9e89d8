//! Mock of the interface `response-body`.

use super::gateway::with_state;

pub(crate) fn decline() {
    with_state(|state| state.declines = true);
}
