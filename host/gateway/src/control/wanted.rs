//! Requested reloads that have not begun. However many are requested, they become one load: a request that comes
//! while another waits joins it, and gets the result of the load that begins then.

use std::collections::BTreeSet;
use std::fmt::Write;

use tokio::sync::oneshot;

use super::status::Change;

/// The most different reasons that are listed. Further ones are only counted.
const REASONS: usize = 8;

/// One waiting load, with all requests for it.
#[derive(Default)]
pub(super) struct Wanted {
    /// Each reason, and how often it was given.
    reasons: Vec<(String, usize)>,
    /// How often reasons beyond [`REASONS`] were given.
    further: usize,
    /// Which versions that were rolled back or reverted are tried again.
    pub(super) force: Force,
    replies: Vec<oneshot::Sender<Change>>,
}

/// Which versions a load tries again although they were rolled back or reverted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Force {
    /// Whether that was requested.
    pub(crate) asked: bool,
    /// The bindings whose version was rolled back or reverted after the request: these are not tried again.
    but_for: BTreeSet<String>,
}

impl Force {
    /// All that were rolled back or reverted until now (`true`), or none.
    pub(crate) fn all(asked: bool) -> Force {
        Force { asked, but_for: BTreeSet::new() }
    }

    /// Whether the version of a binding that was rolled back or reverted is tried again.
    pub(crate) fn applies_to(&self, binding: &str) -> bool {
        self.asked && !self.but_for.contains(binding)
    }

    /// Excludes a binding whose version was just rolled back or reverted: earlier requests do not undo that.
    pub(super) fn spare(&mut self, binding: &str) {
        if self.asked {
            self.but_for.insert(binding.to_owned());
        }
    }

    /// Combines two requests.
    fn merge(&mut self, other: Force) {
        match (self.asked, other.asked) {
            (true, true) => self.but_for.retain(|binding| other.but_for.contains(binding)),
            (false, true) => *self = other,
            (_, false) => {}
        }
    }
}

impl Wanted {
    /// Adds a request.
    pub(super) fn join(&mut self, reason: String, force: bool, reply: Option<oneshot::Sender<Change>>) {
        self.note(reason, 1);
        self.force.merge(Force::all(force));
        // Requesters may be gone.
        self.replies.retain(|reply| !reply.is_closed());
        self.replies.extend(reply);
    }

    /// Adds the requests of `later` to these.
    pub(super) fn merge(&mut self, later: Wanted) {
        for (reason, times) in later.reasons {
            self.note(reason, times);
        }
        self.further += later.further;
        self.force.merge(later.force);
        self.replies.extend(later.replies);
    }

    fn note(&mut self, reason: String, times: usize) {
        let room = self.reasons.len() < REASONS;
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) => *known += times,
            None if room => self.reasons.push((reason, times)),
            None => self.further += times,
        }
    }

    /// How often it was requested.
    pub(super) fn requests(&self) -> usize {
        self.reasons.iter().map(|(_, times)| times).sum::<usize>() + self.further
    }

    /// All reasons in one line, e.g. `SIGHUP (150 times); admin request`.
    pub(super) fn reason(&self) -> String {
        let told = self.reasons.iter().map(|(reason, times)| match times {
            1 => reason.clone(),
            times => format!("{reason} ({times} times)"),
        });
        let mut line = told.collect::<Vec<_>>().join("; ");
        if self.further > 0 {
            let _ = write!(line, "; and {} requests for other reasons", self.further);
        }
        line
    }

    /// Sends the result to every requester.
    pub(super) fn answer(self, change: &Change) {
        for reply in self.replies {
            // The requester may be gone.
            let _ = reply.send(change.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_requests_are_one_with_all_their_reasons() {
        let mut wanted = Wanted::default();
        for _ in 0..150 {
            wanted.join("SIGHUP".to_owned(), false, None);
        }
        wanted.join("admin request".to_owned(), false, None);
        assert_eq!(wanted.reason(), "SIGHUP (150 times); admin request");
        for number in 0..1000 {
            wanted.join(format!("files changed: {number}.toml"), false, None);
        }
        assert_eq!(wanted.requests(), 1151);
        assert!(wanted.reason().ends_with("; and 994 requests for other reasons"), "{}", wanted.reason());
    }

    #[test]
    fn everybody_who_asked_is_told_and_who_has_gone_is_forgotten() {
        let mut wanted = Wanted::default();
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (reply, answer) = oneshot::channel();
            wanted.join("admin request".to_owned(), false, Some(reply));
            answers.push(answer);
        }
        drop(answers.remove(0));
        let mut first = Wanted::default();
        first.join("SIGHUP".to_owned(), false, None);
        assert_eq!(wanted.replies.len(), 3);
        wanted.join("SIGHUP".to_owned(), false, None);
        assert_eq!(wanted.replies.len(), 2, "one has gone");
        first.merge(wanted);
        assert_eq!(first.reason(), "SIGHUP (2 times); admin request (3 times)");
        first.answer(&Change { applied: true, ..Change::default() });
        assert!(answers.into_iter().all(|mut answer| answer.try_recv().is_ok_and(|change| change.applied)));
    }

    #[test]
    fn force_does_not_undo_what_was_taken_back_after_it_was_asked_for() {
        let mut force = Force::all(true);
        assert!(force.applies_to("jwt"));
        force.spare("jwt");
        assert!(!force.applies_to("jwt") && force.applies_to("other"));
        force.merge(Force::all(false));
        assert!(!force.applies_to("jwt"), "a reload without it changes nothing of that");
        force.merge(Force::all(true));
        assert!(force.applies_to("jwt"), "asked for again, it holds for all");
        let mut none = Force::default();
        none.spare("jwt");
        assert!(!none.applies_to("jwt") && !none.applies_to("other"));
    }
}
