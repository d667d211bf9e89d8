//! What a plugin call cost, for the span of the call, and what it leaves beside its result. The cost is measured only if the
//! trace of the request is sampled.
//!
//! The runtime notes both at the end of a call, and the pipeline takes them in the same poll. So nothing else can
//! run on the thread in between.

use std::time::Duration;

use crate::core_local::{LAST_CALL, LAST_LEFT};
use crate::notes::Left;

/// The cost of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallCost {
    /// CPU time of the plugin.
    pub cpu: Duration,
    /// Time until an instance was free.
    pub waited: Duration,
}

/// Notes the cost of the call that ends now.
pub fn note(cost: CallCost) {
    LAST_CALL.set(Some(cost));
}

/// Takes the cost of the call that has just ended; `None` if it was not measured.
pub fn take() -> Option<CallCost> {
    LAST_CALL.take()
}

/// Hands over what the call that ends now leaves beside its result.
pub fn leave(left: Box<Left>) {
    LAST_LEFT.set(Some(left));
}

/// Takes what the call that has just ended leaves; `None` for most calls.
pub fn take_left() -> Option<Box<Left>> {
    LAST_LEFT.take()
}
