//! Whether remembering is worth its while.
//!
//! A key and an answer cost several allocations, and with them an old answer goes, whose memory is long out of the
//! processor's cache. Where the same question comes again this is little; where it never does, because each request
//! carries a token of its own or comes from another client, it costs as much as half a call, for nothing. So, after
//! [`PATIENCE`] questions in a row that found no answer, only one answer in [`SHARE`] is remembered, until one of them is
//! asked for again. A prime share, so that a question that comes every second or every tenth time gets its turn too.

/// Questions without an answer after which most answers are no longer remembered.
const PATIENCE: u64 = 128;
/// Of so many answers one is remembered all the same.
const SHARE: u64 = 31;

/// How one function of one binding fares on one core.
#[derive(Default)]
pub(super) struct Pace {
    /// Questions in a row that found no answer.
    misses: u64,
}

impl Pace {
    /// An answer was found.
    pub(super) fn hit(&mut self) {
        self.misses = 0;
    }

    /// No answer was found. Says whether the one to come should be remembered.
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
