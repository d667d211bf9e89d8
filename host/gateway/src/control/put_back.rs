//! Puts the previous version of a binding's plugin back in service: a rollback by an operator, or a revert because
//! too many calls of the new version failed.
//!
//! It waits for no load. If the previous version was made for the current settings, it is swapped in at once.
//! Otherwise it has to be configured again, which runs plugin code for as long as that takes: a thread of its own
//! does this, so that neither another revert nor a drain waits for it.

use std::sync::Arc;

use tokio::sync::oneshot;
use witgate_config::Problems;

use super::Control;
use super::handle::{Message, PendingGuard};
use super::load::PluginDraft;
use super::source::ChangeProblem;
use super::status::{BindingState, Change};

/// A request to put a version back.
pub(super) struct PutBack {
    binding: String,
    why: Why,
}

/// The reason.
enum Why {
    /// A rollback by an operator, who waits for the result.
    ByHand(oneshot::Sender<Change>, PendingGuard),
    /// This version failed too often. Ignored if another is in service by now.
    Failed(u64),
}

/// A previous version that was prepared for the current settings.
pub(super) struct Redrafted {
    /// The generation of the library that was used.
    generation: u64,
    draft: Result<PluginDraft, String>,
}

impl PutBack {
    /// A rollback.
    pub(super) fn by_hand(binding: String, reply: oneshot::Sender<Change>, pending: PendingGuard) -> PutBack {
        PutBack { binding, why: Why::ByHand(reply, pending) }
    }

    /// A revert, because this version failed too often.
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
    /// Puts a previous version back in service, or has it prepared first.
    pub(super) fn put_back(&mut self, order: PutBack) {
        // A version to be reverted may be out of service by now, or have no previous version: then quarantine and
        // `on_failure` still apply.
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
            self.handle.warn(format!("a previous version cannot be prepared: {error}"));
        }
    }

    /// Uses a previous version that was prepared, unless the library has changed since: then the request is
    /// handled again.
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
            self.handle.follow(snapshot);
            self.keep(draft);
            self.spare(&order.binding);
            Ok(())
        });
        let reason = format!("{}: {}", order.binding, order.reason());
        let applied = outcome.is_ok();
        self.note(reason, applied, outcome.err().into_iter().map(ChangeProblem::from).collect());
        if let Why::ByHand(reply, _ticket) = order.why {
            // The requester may be gone.
            let _ = reply.send(self.status.last_change.clone());
        }
    }

    /// Excludes the binding from the load in progress and the waiting one, so that they do not undo this change
    /// although they were requested with `force`.
    fn spare(&mut self, binding: &str) {
        if let Some(loading) = &mut self.loading {
            loading.wanted.force.spare(binding);
        }
        if let Some(waiting) = &mut *self.handle.wanted() {
            waiting.force.spare(binding);
        }
    }
}
