//! Requests that are on their way to an upstream, so that the same request of others waits for the response instead of
//! being sent as well (request collapsing), on whatever core it is.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use tokio::sync::watch;
use witgate_exchange::fault::FaultKind;

use crate::entry::Entry;
use crate::key::Key;

/// The number of shards. Each has a lock, which is held for one look or change.
const SHARDS: usize = 16;

/// What has become of a request that others wait for.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// There is no response yet.
    Pending,
    /// There is a response that is stored or being stored. Whether others may use it is theirs to check.
    Entry(Arc<Entry>),
    /// The response is for this request alone: all others go by themselves, at once.
    Alone,
    /// The upstream failed, and a stale response was used.
    Stale,
    /// The upstream failed.
    Failed(FaultKind),
    /// The request has vanished without a response: another one is to be sent.
    Vanished,
}

/// The requests that are on their way, by their key and by whether they have restricted rights: those wait only for each
/// other, because hardly any of their responses is for all.
type Shard = HashMap<(Key, bool), watch::Receiver<Outcome>>;

/// The requests that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Collapsing {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

/// What a request does about its miss.
pub(crate) enum Role {
    /// It is the one that is sent.
    Leader(Leader),
    /// It waits.
    Wait(watch::Receiver<Outcome>),
}

impl Collapsing {
    fn shard(&self, key: &(Key, bool)) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(&key.0) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request on its way under this key, or the right to be it.
    pub(crate) fn join(self: &Arc<Self>, key: &Key, restricted: bool) -> Role {
        let key = (key.clone(), restricted);
        let mut shard = self.shard(&key);
        if let Some(sent) = shard.get(&key) {
            return Role::Wait(sent.clone());
        }
        let (sender, receiver) = watch::channel(Outcome::Pending);
        shard.insert(key.clone(), receiver);
        drop(shard);
        Role::Leader(Leader { collapsing: Arc::clone(self), key, sender })
    }
}

/// The request that is sent, for which others wait. If it is dropped before there is an outcome, another one is sent.
#[derive(Debug)]
pub(crate) struct Leader {
    collapsing: Arc<Collapsing>,
    key: (Key, bool),
    sender: watch::Sender<Outcome>,
}

impl Leader {
    /// Tells all who wait. The request stays on its way until this is dropped, so that later ones join it.
    pub(crate) fn tell(&self, outcome: Outcome) {
        self.sender.send_replace(outcome);
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.collapsing.shard(&self.key).remove(&self.key);
        self.sender.send_if_modified(|outcome| {
            let pending = matches!(outcome, Outcome::Pending);
            if pending {
                *outcome = Outcome::Vanished;
            }
            pending
        });
    }
}
