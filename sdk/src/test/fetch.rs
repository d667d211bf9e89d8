//! Mock of the interface `fetch`: the test implements the upstreams.

use super::gateway::with_state;
use crate::imports::fetch::{Error, InboundResponse, OutboundRequest};

pub(super) type Upstream = Box<dyn FnMut(&OutboundRequest) -> Result<InboundResponse, Error>>;

pub(crate) fn send(request: &OutboundRequest) -> Result<InboundResponse, Error> {
    // Taken out of the state during its call, because it may itself log or use the store.
    let upstream = with_state(|state| {
        state.sent.push(request.clone());
        state.upstreams.remove_entry(&request.upstream)
    });
    let Some((name, mut upstream)) = upstream else {
        return Err(Error::Denied);
    };
    let answer = upstream(request);
    with_state(|state| {
        state.upstreams.entry(name).or_insert(upstream);
    });
    answer
}
