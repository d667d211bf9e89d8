//! Runs a source on its thread, and runs it again after a failure.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep};

use super::{BuiltSource, Sink, Source, SourceThread};

/// The pause after the first failure. It doubles with each further failure in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause. A run that lasts longer than this resets the pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A running source. Dropping this stops it. A source that blocks its own thread ends only when it yields.
pub(crate) struct RunningSource {
    task: Option<JoinHandle<()>>,
    _stop: Option<oneshot::Sender<()>>,
}

impl RunningSource {
    /// Starts a source; called on the keeper's thread. If the system refuses a thread, the sink reports it as a
    /// failure.
    pub(crate) fn start(built: BuiltSource, sink: Sink) -> RunningSource {
        let BuiltSource { source, thread, .. } = built;
        match thread {
            SourceThread::Keeper => {
                let task = tokio::task::spawn_local(supervise(source, sink));
                RunningSource { task: Some(task), _stop: None }
            }
            SourceThread::Own => {
                let (stop, stopped) = oneshot::channel();
                if let Err(error) = start_thread(source, sink.clone(), stopped) {
                    sink.failed(format!("the thread of the source cannot be started: {error}"));
                }
                RunningSource { task: None, _stop: Some(stop) }
            }
        }
    }
}

impl Drop for RunningSource {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn start_thread(source: Box<dyn Source>, sink: Sink, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("witgate-source".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = supervise(source, sink) => {}
                _ = stopped => {}
            }
        });
    })?;
    Ok(())
}

/// Runs a source until its set can no longer change.
async fn supervise(mut source: Box<dyn Source>, sink: Sink) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let Err(why) = source.run(&sink).await else { return };
        sink.failed(why);
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        // Jitter, so that the gateways of a fleet do not all ask at the same time.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
