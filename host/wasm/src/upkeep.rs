//! What must not be done on the data path: dropping stores and compiled code, making instances ahead of need.

use std::any::Any;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use crate::pool::Pool;

/// Chores that may wait.
const QUEUE: usize = 4096;

/// Hands chores to a thread of their own. Handing over never waits.
#[derive(Clone)]
pub(crate) struct Upkeep(SyncSender<Chore>);

enum Chore {
    /// Something whose drop takes time.
    Drop(Box<dyn Any + Send>),
    /// A core of a pool that may want instances.
    Refill(Weak<Pool>, usize),
}

impl Upkeep {
    /// Starts the thread. It ends when the last handle is gone.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        thread::Builder::new().name("witgate-upkeep".into()).spawn(move || work(&receiver))?;
        Ok(Upkeep(sender))
    }

    /// Drops a value over there; here, if the thread does not keep up: that slows down who makes the waste.
    pub(crate) fn discard(&self, value: impl Any + Send) {
        drop(self.0.try_send(Chore::Drop(Box::new(value))));
    }

    /// Has instances made until a core has its idle ones. Says whether that will be done.
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
