//! The weighted split of requests over upstreams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upstreams with their weights.
///
/// Picks are spread by multiples of the golden ratio: any run of picks is close to the weights, small shares do
/// not come in a row, and a pick is one addition however large the weights are.
#[derive(Debug)]
pub(super) struct Split {
    /// Each upstream with the sum of the weights up to and including its own.
    upstreams: Vec<(Arc<str>, u64)>,
    turn: AtomicU64,
}

/// 2^64 divided by the golden ratio.
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;

impl Split {
    /// Splits by weight. Upstreams of weight 0 are left out; `None` if no upstream has a weight.
    pub(super) fn new(upstreams: &[(String, u32)]) -> Option<Split> {
        let mut total = 0;
        let mut shares = Vec::new();
        for (name, weight) in upstreams.iter().filter(|(_, weight)| *weight > 0) {
            total += u64::from(*weight);
            shares.push((Arc::from(name.as_str()), total));
        }
        (total > 0).then(|| Split { upstreams: shares, turn: AtomicU64::new(0) })
    }

    /// Picks the next upstream.
    pub(super) fn next(&self) -> &Arc<str> {
        let [.., (last, total)] = self.upstreams.as_slice() else {
            unreachable!("a split has at least one upstream");
        };
        if self.upstreams.len() == 1 {
            return last;
        }
        let point = self.turn.fetch_add(STRIDE, Ordering::Relaxed);
        let point = (u128::from(point) * u128::from(*total)) >> 64;
        let index = self.upstreams.partition_point(|(_, sum)| u128::from(*sum) <= point);
        &self.upstreams[index].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_close_to_the_weights() {
        let split = Split::new(&[("a".into(), 90), ("off".into(), 0), ("b".into(), 10)]).unwrap();
        let taken: Vec<bool> = (0..1000).map(|_| split.next().as_ref() == "b").collect();
        for run in taken.chunks(100) {
            let count = run.iter().filter(|taken| **taken).count();
            assert!((8..=12).contains(&count), "{count} of 100 for a share of a tenth");
        }
    }

    #[test]
    fn without_weight_there_is_no_split() {
        assert!(Split::new(&[("a".into(), 0)]).is_none());
    }
}
