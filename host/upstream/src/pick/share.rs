//! What an operator sets for an endpoint while the gateway runs: another weight, a drain.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The settings of an operator for one endpoint. Carried over every reload by upstream, host and port.
///
/// Another weight applies until the file gives the endpoint a weight that differs from the one that was replaced,
/// or until it is reset. A drain lasts until it is ended. Both are dropped when the endpoint has left the file.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// 0 if no weight is set. Otherwise the upper half is the weight of the file plus 1, and the lower half is the
    /// weight that was set.
    weight: AtomicU64,
    drained: AtomicBool,
}

impl Share {
    /// The weight that applies if that of the file is `written`.
    pub(crate) fn weight(&self, written: u32) -> u32 {
        self.other_weight(written).unwrap_or(written)
    }

    /// The weight that replaces that of the file. `None` if none is set for it.
    pub(crate) fn other_weight(&self, written: u32) -> Option<u32> {
        let said = self.weight.load(Ordering::Relaxed);
        (said >> 32 == u64::from(written) + 1).then_some(said as u32)
    }

    /// Whether it takes no new requests.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Replaces the weight `written` of the file by another.
    pub(crate) fn set_weight(&self, written: u32, weight: u32) {
        self.weight.store((u64::from(written) + 1) << 32 | u64::from(weight), Ordering::Relaxed);
    }

    /// Begins or ends the drain. Returns whether that is a change.
    pub(crate) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Ordering::Relaxed) != drained
    }

    /// Discards all settings.
    pub(crate) fn reset(&self) {
        self.weight.store(0, Ordering::Relaxed);
        self.drained.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_weight_holds_until_the_file_says_another() {
        let share = Share::default();
        assert_eq!(share.weight(3), 3);
        share.set_weight(3, 0);
        assert_eq!((share.weight(3), share.weight(4)), (0, 4));
        share.set_weight(0, 1_000_000);
        assert_eq!((share.weight(0), share.weight(3)), (1_000_000, 3));
        assert!(share.set_drained(true) && !share.set_drained(true));
        share.reset();
        assert_eq!((share.weight(0), share.is_drained()), (0, false));
    }
}
