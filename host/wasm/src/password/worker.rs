//! The threads that verify passwords, so that no core waits for them.
//!
//! They have a low priority: when the machine is busy, serving requests goes first, and whoever tries passwords waits. Their
//! queue is bounded; what does not fit is refused at once. A verification whose caller has gone is left out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::StoredHash;
use crate::background::lower_priority;

/// The most verifications that wait.
const QUEUE: usize = 256;

/// The most verifications of one client that wait or are under way. Who tries passwords from one address cannot lock the
/// others out.
const SHARE: usize = QUEUE / 8;

/// Verifies passwords on threads that are started with the first verification.
pub(crate) struct PasswordWorkers {
    threads: usize,
    jobs: OnceLock<Option<SyncSender<Job>>>,
    clients: Arc<Clients>,
}

struct Job {
    password: Vec<u8>,
    hash: StoredHash,
    reply: oneshot::Sender<bool>,
    _counted: Counted,
}

/// The number of verifications of each client that wait or are under way. It has at most one entry for each of them.
#[derive(Default)]
struct Clients(Mutex<HashMap<IpAddr, usize>>);

/// A verification that is counted until it is dropped.
struct Counted {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    /// Counts one more. `None`: the client has its share.
    fn count(self: &Arc<Self>, client: IpAddr) -> Option<Counted> {
        let client = network(client);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count == SHARE {
            return None;
        }
        *count += 1;
        Some(Counted { clients: Arc::clone(self), client })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// An IPv6 client usually has a whole network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl PasswordWorkers {
    /// Workers for a gateway of so many cores: half as many threads, at least one.
    pub(crate) fn new(cores: usize) -> PasswordWorkers {
        PasswordWorkers { threads: (cores / 2).max(1), jobs: OnceLock::new(), clients: Arc::default() }
    }

    /// Queues a verification for a client. `None`: the queue is full, the client has its share of it, or no thread could be
    /// started.
    pub(crate) fn verify(
        &self,
        client: IpAddr,
        password: Vec<u8>,
        hash: StoredHash,
    ) -> Option<oneshot::Receiver<bool>> {
        let jobs = self.jobs.get_or_init(|| start(self.threads)).as_ref()?;
        let counted = self.clients.count(client)?;
        let (reply, verdict) = oneshot::channel();
        jobs.try_send(Job { password, hash, reply, _counted: counted }).ok()?;
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
        let Ok(Job { password, hash, reply, _counted }) = next else { return };
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

    fn client(number: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, u8::try_from(number).expect("few clients")])
    }

    #[test]
    fn one_client_has_a_share_and_leaves_room_for_others() {
        let clients = Arc::<Clients>::default();
        let mut counted: Vec<_> = (0..SHARE).map(|_| clients.count(client(1)).expect("its share")).collect();
        assert!(clients.count(client(1)).is_none());
        assert!(clients.count("::ffff:192.0.2.1".parse().unwrap()).is_none(), "the same address");
        assert!(clients.count(client(2)).is_some());
        counted.pop();
        assert!(clients.count(client(1)).is_some());
        drop(counted);
        assert!(clients.0.lock().unwrap().is_empty(), "nothing is kept of clients that have left");

        let network: Vec<_> = (0..SHARE)
            .map(|index| clients.count(format!("2001:db8::{index:x}").parse().unwrap()).expect("its share"))
            .collect();
        assert!(clients.count("2001:db8::ffff".parse().unwrap()).is_none());
        assert!(clients.count("2001:db8:0:1::1".parse().unwrap()).is_some());
        drop(network);

        let workers = PasswordWorkers::new(1);
        let slow = || StoredHash::check(&format!("$2y$12${}", ".".repeat(53))).unwrap();
        let mut waiting = Vec::new();
        while let Some(verdict) = workers.verify(client(1), b"x".to_vec(), slow()) {
            waiting.push(verdict);
            assert!(waiting.len() <= QUEUE, "a client has a share");
        }
        assert!(waiting.len() < QUEUE / 4, "{}", waiting.len());
        let other = workers.verify(client(2), b"right".to_vec(), hash()).expect("there is room for others");
        drop(waiting);
        assert_eq!(other.blocking_recv(), Ok(true));
    }

    #[test]
    fn verdicts_come_from_the_workers_and_a_full_queue_refuses() {
        let workers = PasswordWorkers::new(1);
        // Of a client of its own: a place is given back a moment after the verdict is there.
        let asked =
            |password: &str| workers.verify(client(100), password.into(), hash()).expect("there is room");
        assert_eq!(asked("right").blocking_recv(), Ok(true));
        assert_eq!(asked("wrong").blocking_recv(), Ok(false));

        // Some tenths of a second for each of the first, so that the queue fills up behind them.
        let slow = || StoredHash::check(&format!("$2y$12${}", ".".repeat(53))).unwrap();
        let mut waiting = Vec::new();
        while let Some(verdict) = workers.verify(client(waiting.len() / SHARE), b"x".to_vec(), slow()) {
            waiting.push(verdict);
            assert!(waiting.len() <= QUEUE + 2, "the queue is bounded");
        }
        assert!(waiting.len() >= QUEUE);
        // Nobody waits for them any more, so they are left out, and the next one gets its verdict soon.
        drop(waiting);
        let verdict = loop {
            match workers.verify(client(0), b"right".to_vec(), hash()) {
                Some(verdict) => break verdict,
                None => thread::yield_now(),
            }
        };
        assert_eq!(verdict.blocking_recv(), Ok(true));
    }
}
