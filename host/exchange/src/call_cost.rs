//! What a plugin call cost, for the span of the call. Measured only if the trace of the request is sampled.
//!
//! The runtime notes the cost at the end of a call, and the pipeline takes it in the same poll. So nothing else can
//! run on the thread in between.

use std::cell::Cell;
use std::time::Duration;

/// The cost of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallCost {
    /// CPU time of the plugin.
    pub cpu: Duration,
    /// Time until an instance was free.
    pub waited: Duration,
}

thread_local! {
    static LAST: Cell<Option<CallCost>> = const { Cell::new(None) };
}

/// Notes the cost of the call that ends now.
pub fn note(cost: CallCost) {
    LAST.set(Some(cost));
}

/// Takes the cost of the call that has just ended; `None` if it was not measured.
pub fn take() -> Option<CallCost> {
    LAST.take()
}
