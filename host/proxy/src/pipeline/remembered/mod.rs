//! Remembered results, which are used again without a call: acceptances for as long as they allow, and results of
//! functions that are declared pure.
//!
//! Each core remembers by itself, so nothing is locked. The validated result is kept, ready for use. Its key has
//! three parts: the version of the binding, so that another binding, other code, settings or grants never see it;
//! the version of the snapshot in which it was validated, so that it never evades a later rule; and exactly the
//! inputs on which it is based, which are compared byte for byte. Credentials are kept only as a SHA-256.
//!
//! While a binding is quarantined, its remembered results are still used.
//!
//! # Cost
//!
//! A hit costs one hash with a random key, one lookup and one comparison. The hash is a fast one (foldhash). It
//! decides nothing: somebody who found out its key could only evict results of others, each of which then costs a
//! call. After a miss, the key is written and credentials are digested only if the result is going to be
//! remembered. Results that are rarely used again are mostly not remembered: see [`pace`].

mod key;
mod memory;
mod pace;
mod table;

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use witgate_exchange::contracts::{Binding, Function, INPUTS, Input, ResponseHead};
use witgate_exchange::head::RequestHead;
use witgate_exchange::turn;

use crate::snapshot::Snapshot;
use key::{Basis, ResponseInputs};
use memory::{Memory, Owner, SHAPES};

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory::default());
}

/// A validated result that can be remembered.
pub(super) trait Rememberable: Any {
    /// The approximate number of bytes that it keeps.
    fn size(&self) -> usize;
}

/// The outcome of looking for a remembered result.
pub(super) enum Lookup<T> {
    /// The remembered result.
    Hit(Rc<T>),
    /// There is none, so a call has to be made.
    Miss(MissToken),
}

/// The right to remember the result of a call after a miss. It holds the hashes that were computed while the
/// result was looked for.
#[derive(Default)]
pub(super) struct MissToken(Option<[u64; SHAPES]>);

impl MissToken {
    /// Whether the result of the call is to be remembered.
    pub(super) fn is_leave(&self) -> bool {
        self.0.is_some()
    }
}

/// The call of a function that may be pure, for one request.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) binding: &'a dyn Binding,
    pub(super) function: Function,
    pub(super) head: &'a RequestHead,
    pub(super) snapshot: &'a Snapshot,
    /// The response and the context, for `on-response`.
    pub(super) response: Option<(&'a ResponseHead, &'a [u8])>,
}

impl<'a> Question<'a> {
    /// A call with a request only.
    pub(super) fn new(
        binding: &'a dyn Binding,
        function: Function,
        head: &'a RequestHead,
        snapshot: &'a Snapshot,
    ) -> Self {
        Question { binding, function, head, snapshot, response: None }
    }

    /// The remembered result for the same inputs.
    pub(super) fn recall<T: Rememberable>(&self) -> Lookup<T> {
        let Some(basis) = self.basis() else { return Lookup::Miss(MissToken::default()) };
        let recalled = MEMORY.with_borrow_mut(|memory| memory.recall(self.owner(), self.function, &basis));
        if let Lookup::Hit(_) = recalled {
            self.binding.answered_again();
        }
        recalled
    }

    /// Remembers the result of a call that was pure.
    pub(super) fn remember<T: Rememberable>(&self, miss: &MissToken, answer: &Rc<T>) {
        let (Some(hashes), Some(basis)) = (miss.0, self.basis()) else { return };
        MEMORY.with_borrow_mut(|memory| {
            memory.remember(self.owner(), self.function, hashes[0], &basis, answer);
        });
    }

    /// The inputs of the result; `None` if it is not to be remembered.
    fn basis(&self) -> Option<Basis<'a>> {
        let interest = self.binding.interest();
        let inputs = interest.inputs(self.function)?;
        let shown = self.response.map(|(head, context)| ResponseInputs {
            head,
            headers: &interest.response_headers,
            context,
        });
        let basis = Basis { inputs, head: self.head, shown, secret: false };
        // Changes and responses that depend on a credential might contain it.
        let might_tell =
            matches!(self.function, Function::Admit | Function::OnRequest | Function::OnResponse);
        (self.binding.remembers() && !(might_tell && basis.has_credentials())).then_some(basis)
    }

    fn owner(&self) -> Owner {
        owner(self.binding, self.snapshot)
    }
}

/// The remembered acceptance for this request.
pub(super) fn recall_acceptance<T: Rememberable>(
    binding: &dyn Binding,
    snapshot: &Snapshot,
    head: &RequestHead,
) -> Lookup<T> {
    if !binding.remembers() {
        return Lookup::Miss(MissToken::default());
    }
    let owner = owner(binding, snapshot);
    let recalled = MEMORY.with_borrow_mut(|memory| memory.recall_acceptance(owner, head, turn::now));
    if let Lookup::Hit(_) = recalled {
        binding.answered_again();
    }
    recalled
}

/// Remembers an acceptance that is based on these inputs for this time. If there are no inputs, it is not
/// remembered.
pub(super) fn remember_acceptance<T: Rememberable>(
    miss: &MissToken,
    binding: &dyn Binding,
    snapshot: &Snapshot,
    head: &RequestHead,
    (inputs, time): (&[Input], Duration),
    accepted: &Rc<T>,
) {
    let Some(hashes) = miss.0 else { return };
    if time.is_zero() || inputs.is_empty() || inputs.len() > INPUTS {
        return;
    }
    let Some(until) = turn::now().checked_add(time) else { return };
    let owner = owner(binding, snapshot);
    MEMORY.with_borrow_mut(|memory| {
        memory.remember_acceptance(owner, &hashes, head, (inputs, until), accepted);
    });
}

fn owner(binding: &dyn Binding, snapshot: &Snapshot) -> Owner {
    Owner { version: binding.version(), snapshot: snapshot.version }
}
