//! Mock of the interface `ending`.

use super::gateway::with_state;
use crate::response::Response;

pub(crate) fn respond(response: &Response) -> bool {
    with_state(|state| state.ending = Some(response.clone()));
    true
}
