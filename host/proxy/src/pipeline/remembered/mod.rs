//! Answers that may be used again without a call: acceptances for as long as they say, and whatever a function answered
//! that is declared pure.
//!
//! Each core remembers for itself, so nothing is locked. What is kept is the answer as it was validated, ready for use.
//! It is found by the version of the binding, so that another binding, other code, settings or grants never see it; by
//! the version of the snapshot it was validated in, so that a rule that came into force later is never evaded; and by
//! exactly the inputs it was based on, which are compared byte for byte. Credentials are not kept: of them, a SHA-256 is.
//!
//! A binding that rests in quarantine makes no calls, and what is remembered of it goes on to be used.
//!
//! # What it costs
//!
//! A hit is a hash with a random key, one place of the table, and a comparison. The hash is a fast one (foldhash: SipHash
//! takes 1,200 instructions more for the five questions of a chain of four). It decides nothing: whoever found out its key
//! could drive answers of others out of their places, and each of these then costs a call. On a miss, a key is only made
//! if the answer is remembered, and a credential is only digested then. What is not asked for again is not worth that: see
//! [`pace`].

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

/// A validated answer that can be kept.
pub(super) trait Rememberable: Any {
    /// Roughly the bytes it keeps.
    fn size(&self) -> usize;
}

/// What is remembered of a question.
pub(super) enum Lookup<T> {
    /// The answer.
    Hit(Rc<T>),
    /// None: a call has to be made.
    Miss(MissToken),
}

/// Leave to remember the answer to a question, with what was found out about its key while it was looked for.
#[derive(Default)]
pub(super) struct MissToken(Option<[u64; SHAPES]>);

impl MissToken {
    /// Whether the answer to come is to be remembered.
    pub(super) fn is_leave(&self) -> bool {
        self.0.is_some()
    }
}

/// One request, as a function that may be pure is asked about it.
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
    /// About a request.
    pub(super) fn new(
        binding: &'a dyn Binding,
        function: Function,
        head: &'a RequestHead,
        snapshot: &'a Snapshot,
    ) -> Self {
        Question { binding, function, head, snapshot, response: None }
    }

    /// The answer that was given before to the same inputs.
    pub(super) fn recall<T: Rememberable>(&self) -> Lookup<T> {
        let Some(basis) = self.basis() else { return Lookup::Miss(MissToken::default()) };
        let recalled = MEMORY.with_borrow_mut(|memory| memory.recall(self.owner(), self.function, &basis));
        if let Lookup::Hit(_) = recalled {
            self.binding.answered_again();
        }
        recalled
    }

    /// Remembers the answer of a call that kept its promise.
    pub(super) fn remember<T: Rememberable>(&self, miss: &MissToken, answer: &Rc<T>) {
        let (Some(hashes), Some(basis)) = (miss.0, self.basis()) else { return };
        MEMORY.with_borrow_mut(|memory| {
            memory.remember(self.owner(), self.function, hashes[0], &basis, answer);
        });
    }

    /// What the answer depends on; none: it is not to be remembered.
    fn basis(&self) -> Option<Basis<'a>> {
        let interest = self.binding.interest();
        let inputs = interest.inputs(self.function)?;
        let shown = self.response.map(|(head, context)| ResponseInputs {
            head,
            headers: &interest.response_headers,
            context,
        });
        let basis = Basis { inputs, head: self.head, shown, secret: false };
        // Changes made with a credential might hold it.
        let might_tell = matches!(self.function, Function::OnRequest | Function::OnResponse);
        (self.binding.remembers() && !(might_tell && basis.has_credentials())).then_some(basis)
    }

    fn owner(&self) -> Owner {
        owner(self.binding, self.snapshot)
    }
}

/// A remembered acceptance that fits this request.
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

/// Remembers an acceptance that is based on these inputs, for so long; not at all if there are none.
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
