//! The thread that calls `tick` of one binding in its interval.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use crate::background;
use crate::call::tick::tick;
use crate::plugin::Loaded;

/// A binding whose `tick` is called until this is dropped.
pub(crate) struct Ticking(#[expect(dead_code, reason = "dropping it ends the thread")] oneshot::Sender<()>);

impl Ticking {
    /// Starts the thread. `None`: the operating system gives none; a line in the log says so.
    pub(crate) fn start(loaded: &Arc<Loaded>) -> Option<Ticking> {
        let (stop, stopped) = oneshot::channel();
        let binding = Arc::downgrade(loaded);
        let work = move || async move {
            tokio::select! {
                _ = stopped => {}
                () = keep_ticking(binding) => {}
            }
        };
        match background::start("witgate-tick", work) {
            Ok(()) => Some(Ticking(stop)),
            Err(error) => {
                loaded.no_thread("tick", &error);
                None
            }
        }
    }
}

async fn keep_ticking(binding: Weak<Loaded>) {
    loop {
        let Some(loaded) = binding.upgrade() else { return };
        // A failure is counted and logged as of any other call; the next interval brings the next try.
        let _counted = tick(&loaded).await;
        let interval = loaded.background.interval;
        drop(loaded);
        tokio::time::sleep(interval).await;
    }
}
