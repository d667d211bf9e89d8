//! Clients that publish one message after the other, and remember which were accepted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;
use witgate_tests::{Client, eventually};

use super::post;

/// The number of clients.
const CLIENTS: usize = 8;

/// Clients that publish until they are told to stop.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    clients: JoinSet<BTreeSet<String>>,
}

impl Load {
    pub(super) fn begin(gateway: SocketAddr) -> Load {
        let (stop, accepted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(work(gateway, number, Arc::clone(&stop), Arc::clone(&accepted)));
        }
        Load { stop, accepted, clients }
    }

    /// Waits for this number of further messages.
    pub(super) async fn goes_on(&self, messages: usize) {
        let before = self.accepted.load(Ordering::SeqCst);
        eventually("messages to be accepted", async || {
            self.accepted.load(Ordering::SeqCst) >= before + messages
        })
        .await;
    }

    /// The ids of the messages that were accepted.
    pub(super) async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn work(
    gateway: SocketAddr,
    number: usize,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
) -> BTreeSet<String> {
    let mut client = Client::http1(gateway).await;
    let mut told = BTreeSet::new();
    for count in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let id = format!("ok-{number}-{count}");
        let reply = post(&mut client, &id, &[], "").await;
        match reply.status.as_u16() {
            202 => {
                told.insert(id);
                accepted.fetch_add(1, Ordering::SeqCst);
            }
            // Each of them says whether the message was stored.
            502..=504 => {
                let title = reply.json()["title"].to_string();
                assert!(
                    title.contains("was not stored") || title.contains("may have been stored"),
                    "{title}"
                );
            }
            other => panic!("{other}: {}", reply.text()),
        }
    }
    told
}
