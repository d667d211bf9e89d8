//! Refused components, so that each reload does not compile them again.

use std::time::{Duration, Instant};

use crate::refusal::Refusal;

/// Number of refusals that are kept; the oldest ones are removed first.
const KEPT: usize = 64;

/// A component that was not compiled.
#[derive(Debug)]
pub(super) struct Failed {
    /// The reason.
    pub(super) refusal: Refusal,
    /// How long the same result is to be expected for the same bytes.
    remember: Remember,
}

/// How long a refusal is remembered.
#[derive(Debug, Clone, Copy)]
enum Remember {
    /// The bytes themselves are the reason.
    Always,
    /// The load of the machine may have been the reason.
    For(Duration),
    /// The bytes were not the reason, and trying again is cheap.
    Never,
}

impl Failed {
    /// The same bytes would be refused again.
    pub(super) fn always(refusal: Refusal) -> Self {
        Failed { refusal, remember: Remember::Always }
    }

    /// The same bytes may be accepted later, when the machine is less busy.
    pub(super) fn for_a_while(refusal: Refusal) -> Self {
        Failed { refusal, remember: Remember::For(Duration::from_secs(300)) }
    }

    /// The bytes were not even read.
    pub(super) fn this_time(refusal: Refusal) -> Self {
        Failed { refusal, remember: Remember::Never }
    }
}

/// Refusals by digest.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// In order of arrival, the newest last.
    list: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    digest: [u8; 32],
    refusal: Refusal,
    /// `None`: without end.
    until: Option<Instant>,
}

impl Refused {
    /// Why these bytes were refused, if the refusal is still valid.
    pub(super) fn find(&self, digest: &[u8; 32]) -> Option<Refusal> {
        let holds = |entry: &&Entry| entry.until.is_none_or(|until| Instant::now() < until);
        let entry = self.list.iter().find(|entry| entry.digest == *digest).filter(holds)?;
        Some(entry.refusal.clone())
    }

    /// Remembers a refusal for as long as it is valid.
    pub(super) fn remember(&mut self, digest: [u8; 32], failed: &Failed) {
        let until = match failed.remember {
            Remember::Always => None,
            Remember::For(time) => Some(Instant::now() + time),
            Remember::Never => return,
        };
        self.list.retain(|entry| entry.digest != digest);
        if self.list.len() == KEPT {
            self.list.remove(0);
        }
        self.list.push(Entry { digest, refusal: failed.refusal.clone(), until });
    }

    /// Forgets all refusals.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reason;

    fn refusal(message: &str) -> Refusal {
        Refusal::new(Reason::Compile, message, "")
    }

    #[test]
    fn refusals_are_kept_by_digest_up_to_a_bound() {
        let mut refused = Refused::default();
        for number in 0..=u8::try_from(KEPT).unwrap() {
            refused.remember([number; 32], &Failed::always(refusal("bad")));
        }
        assert_eq!(refused.find(&[0; 32]), None, "the oldest went");
        assert_eq!(refused.find(&[1; 32]), Some(refusal("bad")));
        refused.clear();
        assert_eq!(refused.find(&[1; 32]), None);
    }

    #[test]
    fn what_the_machine_may_have_been_the_reason_of_is_tried_again() {
        let mut refused = Refused::default();
        refused.remember([1; 32], &Failed::this_time(refusal("no process to be had")));
        assert_eq!(refused.find(&[1; 32]), None);
        refused.remember([1; 32], &Failed::for_a_while(refusal("killed")));
        assert!(refused.find(&[1; 32]).is_some());
        refused.list[0].until = Some(Instant::now());
        assert_eq!(refused.find(&[1; 32]), None);
    }
}
