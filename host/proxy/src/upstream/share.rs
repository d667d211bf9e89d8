//! What an operator says about an endpoint while the gateway runs: another weight, no new requests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The word about one endpoint. Carried over every reload by upstream, host and port.
///
/// Another weight holds until the file gives the endpoint another weight than the one it stood in for, or until it is
/// taken back. A drain lasts until it is taken back. Both are gone once the endpoint has left the file.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// 0: what the file says; else the weight of the file in the upper half, plus 1, and the other in the lower.
    weight: AtomicU64,
    drained: AtomicBool,
}

impl Share {
    /// The weight that holds where the file says `written`.
    pub(super) fn weight(&self, written: u32) -> u32 {
        self.other_weight(written).unwrap_or(written)
    }

    /// The weight that stands in for the file's.
    pub(super) fn other_weight(&self, written: u32) -> Option<u32> {
        let said = self.weight.load(Ordering::Relaxed);
        (said >> 32 == u64::from(written) + 1).then_some(said as u32)
    }

    /// Whether it takes no new requests.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Lets another weight stand in for the file's.
    pub(super) fn set_weight(&self, written: u32, weight: u32) {
        self.weight.store((u64::from(written) + 1) << 32 | u64::from(weight), Ordering::Relaxed);
    }

    /// Lets it take no new requests, or take them again. Says whether that is a change.
    pub(super) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Ordering::Relaxed) != drained
    }

    /// Takes everything back.
    pub(super) fn reset(&self) {
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
