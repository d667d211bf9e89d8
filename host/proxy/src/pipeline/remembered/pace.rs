//! Decides whether it is worth remembering the results of a function.
//!
//! Remembering a result costs several allocations, and it evicts an old result, whose memory is no longer in the
//! processor's caches. This is cheap if the same inputs come again. If they never do, because each request has a
//! token of its own or comes from another client, it costs half a call without any gain. Therefore, after
//! [`PATIENCE`] misses in a row only one result in [`SHARE`] is remembered, until the next hit. The share is a
//! prime number, so that inputs that come every second or every tenth time are remembered too.

/// Misses in a row after which most results are no longer remembered.
const PATIENCE: u64 = 128;
/// After that, one of this number of results is remembered.
const SHARE: u64 = 31;

/// The statistics of one function of one binding on one core.
#[derive(Default)]
pub(super) struct Pace {
    /// Misses in a row.
    misses: u64,
}

impl Pace {
    /// Notes a hit.
    pub(super) fn hit(&mut self) {
        self.misses = 0;
    }

    /// Notes a miss. Returns whether the result of the call should be remembered.
    pub(super) fn miss(&mut self) -> bool {
        self.misses += 1;
        self.misses <= PATIENCE || self.misses.is_multiple_of(SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_asked_for_again_is_remembered_rarely_and_one_hit_changes_that() {
        let mut pace = Pace::default();
        let remembered = |times: u64, pace: &mut Pace| (0..times).filter(|_| pace.miss()).count() as u64;
        assert_eq!(remembered(PATIENCE, &mut pace), PATIENCE);
        assert_eq!(remembered(100 * SHARE, &mut pace), 100);
        pace.hit();
        assert_eq!(remembered(PATIENCE, &mut pace), PATIENCE);
    }

    #[test]
    fn a_question_that_comes_every_second_time_gets_its_turn() {
        let mut pace = Pace::default();
        let turns: Vec<bool> = (0..1000).map(|_| pace.miss()).collect();
        for beat in 2..SHARE as usize {
            assert!(turns[200..].iter().step_by(beat).any(|turn| *turn), "every {beat}");
        }
    }
}
