//! The thread on which all look-ups run. It begins with the first one.

use std::rc::Rc;
use std::sync::OnceLock;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::LocalSet;

use super::ask::{Answer, Asker, Question};

/// The most look-ups at once. Each may take several queries.
const AT_ONCE: usize = 64;

/// A question, and where its answer is sent.
type Job = (Question, oneshot::Sender<Answer>);

static JOBS: OnceLock<Result<mpsc::UnboundedSender<Job>, String>> = OnceLock::new();

/// Looks up a name. The look-up begins at once, not when the future is first polled.
pub(super) fn look_up(question: Question) -> impl Future<Output = Answer> + Send {
    let (reply, answer) = oneshot::channel();
    let begun = match JOBS.get_or_init(start) {
        Ok(jobs) => jobs.send((question, reply)).map_err(|_| "the thread for DNS has ended".to_owned()),
        Err(why) => Err(why.clone()),
    };
    async move {
        match begun {
            Ok(()) => answer.await.unwrap_or_else(|_| Answer::Failed("the look-up was given up".to_owned())),
            Err(why) => Answer::Failed(why),
        }
    }
}

fn start() -> Result<mpsc::UnboundedSender<Job>, String> {
    let told = |error: std::io::Error| format!("the thread for DNS cannot be started: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    // The number of questions is bounded by that of names: each is asked for again only after its answer.
    let (jobs, mut incoming) = mpsc::unbounded_channel::<Job>();
    let work = move || {
        LocalSet::new().block_on(&runtime, async {
            let (asker, slots) = (Rc::new(Asker::default()), Rc::new(Semaphore::new(AT_ONCE)));
            while let Some((question, reply)) = incoming.recv().await {
                let (asker, slots) = (asker.clone(), slots.clone());
                tokio::task::spawn_local(async move {
                    let _slot = slots.acquire().await;
                    if !reply.is_closed() {
                        // Whoever asked may be gone by now.
                        let _ = reply.send(asker.ask(question).await);
                    }
                });
            }
        });
    };
    std::thread::Builder::new().name("witgate-dns".to_owned()).spawn(work).map_err(told)?;
    Ok(jobs)
}
