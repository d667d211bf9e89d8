//! Putting the previous version of a binding's plugin back in service: by hand, or because too many calls of the new one
//! failed.
//!
//! It waits for no load. Where the previous version was in service with the settings of now, it is ready, and is swapped in
//! at once. Where the settings have changed since, it has to be configured again, which runs code of its own for as long as
//! that may take: this is done by a thread of its own, so that neither another reversion nor a drain waits for it.

use std::sync::Arc;

use tokio::sync::oneshot;
use witgate_config::Problems;

use super::Control;
use super::handle::{Message, PendingGuard};
use super::load::PluginDraft;
use super::source::ChangeProblem;
use super::status::{BindingState, Change};

/// A version to be put back.
pub(super) struct PutBack {
    binding: String,
    why: Why,
}

/// Why it is put back.
enum Why {
    /// Somebody asked for it, who waits for the outcome.
    ByHand(oneshot::Sender<Change>, PendingGuard),
    /// This version failed too often. If another serves by now, nothing is done.
    Failed(u64),
}

/// What came of making a previous version ready.
pub(super) struct Redrafted {
    /// The generation of the library that was looked at.
    generation: u64,
    draft: Result<PluginDraft, String>,
}

impl PutBack {
    /// By hand.
    pub(super) fn by_hand(binding: String, reply: oneshot::Sender<Change>, pending: PendingGuard) -> PutBack {
        PutBack { binding, why: Why::ByHand(reply, pending) }
    }

    /// Because this version failed too often.
    pub(super) fn failed(binding: String, version: u64) -> PutBack {
        PutBack { binding, why: Why::Failed(version) }
    }

    fn state(&self) -> BindingState {
        match self.why {
            Why::ByHand(..) => BindingState::RolledBack,
            Why::Failed(_) => BindingState::Reverted,
        }
    }

    fn reason(&self) -> &'static str {
        match self.why {
            Why::ByHand(..) => "rolled back by hand",
            Why::Failed(_) => "reverted: too many of the first calls of the new version failed",
        }
    }
}

impl Control {
    /// Puts a previous version back in service, or has it made ready for that.
    pub(super) fn put_back(&mut self, order: PutBack) {
        // A version that is reverted may be out of service by now, or have none before it: then quarantine and
        // `on_failure` are what is left.
        if let Why::Failed(version) = order.why
            && !self.library.can_revert(&order.binding, version)
        {
            return;
        }
        let in_service = self.in_service.clone();
        let (state, reason) = (order.state(), order.reason().to_owned());
        if self.library.previous_is_ready(&order.binding, in_service.plan()) {
            let draft = self.library.draft_previous(&order.binding, in_service.plan(), state, reason);
            return self.swap_back(order, draft);
        }
        let (library, generation, handle) = (self.library.clone(), self.generation, self.handle.clone());
        let redraft = move || {
            let draft = library.draft_previous(&order.binding, in_service.plan(), state, reason);
            let redrafted = Redrafted { generation, draft };
            // A gateway that has ended needs no other version.
            let _ = handle.hand_over(Message::Redrafted(Box::new((order, redrafted))));
        };
        if let Err(error) = std::thread::Builder::new().name("witgate-put-back".to_owned()).spawn(redraft) {
            self.handle.warn(format!("a previous version cannot be made ready: {error}"));
        }
    }

    /// Takes a previous version that was made ready, unless the library has changed since: then it is looked at again.
    pub(super) fn take_redrafted(&mut self, order: PutBack, redrafted: Redrafted) {
        if redrafted.generation == self.generation {
            self.swap_back(order, redrafted.draft);
        } else {
            self.put_back(order);
        }
    }

    fn swap_back(&mut self, order: PutBack, draft: Result<PluginDraft, String>) {
        let outcome = draft.and_then(|draft| {
            let told = |problems: Problems| {
                problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
            };
            let snapshot = self.data_plane.snapshot().with_plugins(draft.plugins()).map_err(told)?;
            let snapshot = Arc::new(snapshot);
            self.data_plane.swap_plugins(snapshot.clone());
            self.telemetry.follow(snapshot);
            self.keep(draft);
            self.spare(&order.binding);
            Ok(())
        });
        let reason = format!("{}: {}", order.binding, order.reason());
        let applied = outcome.is_ok();
        self.note(reason, applied, outcome.err().into_iter().map(ChangeProblem::from).collect());
        if let Why::ByHand(reply, _ticket) = order.why {
            // Who asked may have gone away.
            let _ = reply.send(self.status.last_change.clone());
        }
    }

    /// Neither the load under way nor one that waits undoes what was put back, although it was asked to try again what
    /// had been taken back before.
    fn spare(&mut self, binding: &str) {
        if let Some(loading) = &mut self.loading {
            loading.wanted.force.spare(binding);
        }
        if let Some(waiting) = &mut *self.handle.wanted() {
            waiting.force.spare(binding);
        }
    }
}
