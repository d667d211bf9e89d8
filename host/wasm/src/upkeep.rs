//! Work that is too slow for the data path: dropping stores and compiled code, and making instances in advance.

use std::any::Any;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use crate::pool::Pool;

/// Number of chores that may be queued.
const QUEUE: usize = 4096;

/// Passes chores to a thread of their own. Never blocks.
#[derive(Clone)]
pub(crate) struct Upkeep(SyncSender<Chore>);

enum Chore {
    /// A value that is slow to drop.
    Drop(Box<dyn Any + Send>),
    /// The core of a pool that may need instances.
    Refill(Weak<Pool>, usize),
}

impl Upkeep {
    /// Starts the thread. The thread ends when the last handle is dropped.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        thread::Builder::new().name("witgate-upkeep".into()).spawn(move || work(&receiver))?;
        Ok(Upkeep(sender))
    }

    /// Drops a value on the upkeep thread. If its queue is full, the value is dropped here, which slows the
    /// producer down.
    pub(crate) fn discard(&self, value: impl Any + Send) {
        drop(self.0.try_send(Chore::Drop(Box::new(value))));
    }

    /// Requests that instances are made until a core has its idle ones. Returns whether the request was accepted.
    pub(crate) fn refill(&self, pool: &Arc<Pool>, core: usize) -> bool {
        self.0.try_send(Chore::Refill(Arc::downgrade(pool), core)).is_ok()
    }
}

fn work(chores: &Receiver<Chore>) {
    for chore in chores {
        match chore {
            Chore::Drop(value) => drop(value),
            Chore::Refill(pool, core) => {
                if let Some(pool) = pool.upgrade() {
                    pool.fill(core);
                }
            }
        }
    }
}
