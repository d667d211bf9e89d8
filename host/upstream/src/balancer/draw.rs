//! Random choice of endpoints by weight, and the better of two of them.

use super::Candidate;

/// Draws before the endpoints are checked one after the other. Enough unless nearly all of them are unusable.
const DRAWS: usize = 16;

/// Draws an endpoint with a probability proportional to its weight.
pub(crate) struct Draw {
    /// For each endpoint, the sum of the weights up to and including its own.
    sums: Box<[u64]>,
}

impl Draw {
    /// Draws among these endpoints.
    pub(crate) fn new(candidates: &[Candidate]) -> Self {
        let mut sum = 0;
        let sums = candidates.iter().map(|candidate| {
            sum += u64::from(candidate.weight);
            sum
        });
        Draw { sums: sums.collect() }
    }

    /// The better of two usable endpoints; if only one is usable, that one.
    pub(crate) fn better_of_two(
        &self,
        usable: &dyn Fn(usize) -> bool,
        better: impl Fn(usize, usize) -> usize,
    ) -> Option<usize> {
        if self.sums.len() == 1 {
            return usable(0).then_some(0);
        }
        let mut first = None;
        for _ in 0..DRAWS {
            let index = self.one()?;
            match first {
                _ if first == Some(index) || !usable(index) => {}
                None => first = Some(index),
                Some(first) => return Some(better(first, index)),
            }
        }
        first.or_else(|| {
            let start = fastrand::usize(..self.sums.len());
            (start..self.sums.len()).chain(0..start).filter(|index| usable(*index)).take(2).reduce(better)
        })
    }

    fn one(&self) -> Option<usize> {
        let total = *self.sums.last()?;
        let point = fastrand::u64(..total);
        Some(self.sums.partition_point(|sum| *sum <= point))
    }
}
