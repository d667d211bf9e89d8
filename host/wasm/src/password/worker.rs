//! The threads that verify passwords, so that no core waits for them.
//!
//! They have a low priority: when the machine is busy, serving requests goes first, and whoever tries passwords waits. Their
//! queue is bounded; what does not fit is refused at once. A verification whose caller has gone is left out.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::StoredHash;
use crate::background::lower_priority;

/// The most verifications that wait.
const QUEUE: usize = 256;

/// Verifies passwords on threads that are started with the first verification.
pub(crate) struct PasswordWorkers {
    threads: usize,
    jobs: OnceLock<Option<SyncSender<Job>>>,
}

struct Job {
    password: Vec<u8>,
    hash: StoredHash,
    reply: oneshot::Sender<bool>,
}

impl PasswordWorkers {
    /// Workers for a gateway of so many cores: half as many threads, at least one.
    pub(crate) fn new(cores: usize) -> PasswordWorkers {
        PasswordWorkers { threads: (cores / 2).max(1), jobs: OnceLock::new() }
    }

    /// Queues a verification. `None`: the queue is full, or no thread could be started.
    pub(crate) fn verify(&self, password: Vec<u8>, hash: StoredHash) -> Option<oneshot::Receiver<bool>> {
        let jobs = self.jobs.get_or_init(|| start(self.threads)).as_ref()?;
        let (reply, verdict) = oneshot::channel();
        jobs.try_send(Job { password, hash, reply }).ok()?;
        Some(verdict)
    }
}

/// Starts the threads, which end with the last sender. `None`: the operating system gives no thread.
fn start(threads: usize) -> Option<SyncSender<Job>> {
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut started = false;
    for _ in 0..threads {
        let receiver = Arc::clone(&receiver);
        let thread = thread::Builder::new().name("witgate-password".into());
        started |= thread.spawn(move || work(&receiver)).is_ok();
    }
    started.then_some(sender)
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    lower_priority();
    loop {
        // One thread at a time waits for the next job; the lock is free while it is done.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { password, hash, reply }) = next else { return };
        if !reply.is_closed() {
            // The caller may have gone meanwhile.
            let _unheard = reply.send(hash.is_of(&password));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash() -> StoredHash {
        StoredHash::check(&bcrypt::hash("right", 4).unwrap()).unwrap()
    }

    #[test]
    fn verdicts_come_from_the_workers_and_a_full_queue_refuses() {
        let workers = PasswordWorkers::new(1);
        let asked = |password: &str| workers.verify(password.into(), hash()).expect("there is room");
        assert_eq!(asked("right").blocking_recv(), Ok(true));
        assert_eq!(asked("wrong").blocking_recv(), Ok(false));

        // Some tenths of a second for each of the first, so that the queue fills up behind them.
        let slow = || StoredHash::check(&format!("$2y$12${}", ".".repeat(53))).unwrap();
        let mut waiting = Vec::new();
        while let Some(verdict) = workers.verify(b"x".to_vec(), slow()) {
            waiting.push(verdict);
            assert!(waiting.len() <= QUEUE + 2, "the queue is bounded");
        }
        assert!(waiting.len() >= QUEUE);
        // Nobody waits for them any more, so they are left out, and the next one gets its verdict soon.
        drop(waiting);
        let verdict = loop {
            match workers.verify(b"right".to_vec(), hash()) {
                Some(verdict) => break verdict,
                None => thread::yield_now(),
            }
        };
        assert_eq!(verdict.blocking_recv(), Ok(true));
    }
}
