//! What must not be done on the data path: dropping stores and compiled code, making instances ahead of need.

use std::any::Any;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;

use crate::pool::Pool;

/// Hands chores to a thread of their own. Handing over never waits.
#[derive(Clone)]
pub(crate) struct Upkeep(Sender<Chore>);

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
        let (sender, receiver) = channel();
        thread::Builder::new().name("witgate-upkeep".into()).spawn(move || work(&receiver))?;
        Ok(Upkeep(sender))
    }

    /// Drops a value over there.
    pub(crate) fn discard(&self, value: impl Any + Send) {
        // Once the thread is gone the process ends; then the value is dropped here.
        let _gone = self.0.send(Chore::Drop(Box::new(value)));
    }

    /// Makes instances until a core has its idle ones.
    pub(crate) fn refill(&self, pool: &Arc<Pool>, core: usize) {
        let _gone = self.0.send(Chore::Refill(Arc::downgrade(pool), core));
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
