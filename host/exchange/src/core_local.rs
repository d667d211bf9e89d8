//! What each core owns of this crate.

use std::cell::{Cell, RefCell};

use http::HeaderMap;

use crate::call_cost::CallCost;
use crate::notes::Left;
use crate::per_core::{Claim, SHARED};
use crate::turn::Time;

thread_local! {
    /// Header maps that ended exchanges have left. The one that was returned last is used first, because it is still
    /// in the processor's caches.
    pub(crate) static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
    /// The index of this thread's cell in counters that have one for each core.
    pub(crate) static OWN_CELL: Cell<usize> = const { Cell::new(SHARED) };
    /// The claim to that cell, which ends with the thread.
    pub(crate) static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
    /// The cost of the plugin call that has just ended, until it is taken.
    pub(crate) static LAST_CALL: Cell<Option<CallCost>> = const { Cell::new(None) };
    /// What that call leaves beside its result, until it is taken.
    pub(crate) static LAST_LEFT: Cell<Option<Box<Left>>> = const { Cell::new(None) };
    /// The time of the current poll.
    pub(crate) static TIME: Cell<Time> = const { Cell::new(Time::Untold) };
    /// Whether the current task has given up the rest of its turn.
    pub(crate) static GIVEN_UP: Cell<bool> = const { Cell::new(false) };
}
