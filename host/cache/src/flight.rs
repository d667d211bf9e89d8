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
pub(crate) enum Landing {
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
type Shard = HashMap<(Key, bool), watch::Receiver<Landing>>;

/// The requests that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

/// What a request does about its miss.
pub(crate) enum Seat {
    /// It is the one that is sent.
    Lead(Lead),
    /// It waits.
    Wait(watch::Receiver<Landing>),
}

impl Flights {
    fn shard(&self, key: &(Key, bool)) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(&key.0) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request on its way under this key, or the right to be it.
    pub(crate) fn join(self: &Arc<Self>, key: &Key, restricted: bool) -> Seat {
        let key = (key.clone(), restricted);
        let mut shard = self.shard(&key);
        if let Some(flight) = shard.get(&key) {
            return Seat::Wait(flight.clone());
        }
        let (sender, receiver) = watch::channel(Landing::Pending);
        shard.insert(key.clone(), receiver);
        drop(shard);
        Seat::Lead(Lead { flights: Arc::clone(self), key, sender })
    }
}

/// The request that is sent, for which others wait. If it is dropped before it has landed, another one is sent.
#[derive(Debug)]
pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: (Key, bool),
    sender: watch::Sender<Landing>,
}

impl Lead {
    /// Tells all who wait. The request stays on its way until this is dropped, so that later ones join it.
    pub(crate) fn tell(&self, landing: Landing) {
        self.sender.send_replace(landing);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.shard(&self.key).remove(&self.key);
        self.sender.send_if_modified(|landing| {
            let pending = matches!(landing, Landing::Pending);
            if pending {
                *landing = Landing::Vanished;
            }
            pending
        });
    }
}
