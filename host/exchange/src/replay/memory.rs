//! One limit for all request bodies that the gateway keeps in memory, over all cores and upstreams.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a request body is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To send the request again.
    Retry,
    /// To send the request to a second endpoint at the same time.
    Hedge,
    /// To send a copy to another upstream.
    Mirror,
    /// To show the whole body to a plugin.
    Plugin,
}

/// Names of the purposes in the metrics, in the order of the declaration.
const PURPOSES: [&str; 4] = ["retry", "hedge", "mirror", "plugin"];

/// How many bytes of request bodies the gateway keeps, and how many it may keep (`gateway.body_memory`).
#[derive(Debug)]
pub struct BodyMemory {
    limit: usize,
    shared: Arc<Shared>,
}

/// The counts. They are carried over every reload, because bodies are kept across reloads.
#[derive(Debug, Default)]
struct Shared {
    used: AtomicUsize,
    refused: [AtomicU64; PURPOSES.len()],
}

impl BodyMemory {
    /// The memory with a limit in bytes. Bytes that are in use under the previous configuration stay counted.
    pub fn new(limit: usize, previous: Option<&BodyMemory>) -> Arc<BodyMemory> {
        let shared = previous.map_or_else(Arc::default, |previous| previous.shared.clone());
        Arc::new(BodyMemory { limit, shared })
    }

    /// Number of bytes that are kept now.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// How often a body was not kept because the limit was reached, by purpose.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        PURPOSES.iter().zip(&self.shared.refused).map(|(word, count)| (*word, count.load(Ordering::Relaxed)))
    }

    /// Counts that a body was not kept because the limit was reached.
    pub fn refuse(&self, purpose: Purpose) {
        self.shared.refused[purpose as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.shared.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.shared.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that are reserved in the memory. Dropping this releases them.
#[derive(Debug)]
pub struct Reserved {
    memory: Arc<BodyMemory>,
    bytes: Cell<usize>,
}

impl Reserved {
    /// Reserves no bytes yet.
    pub fn new(memory: Arc<BodyMemory>) -> Reserved {
        Reserved { memory, bytes: Cell::new(0) }
    }

    /// Reserves more bytes. Returns `false`, and reserves none, if the limit is reached.
    pub fn take(&self, bytes: usize) -> bool {
        let taken = self.memory.take(bytes);
        if taken {
            self.bytes.set(self.bytes.get() + bytes);
        }
        taken
    }

    /// Number of reserved bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// The memory in which the bytes are reserved.
    pub fn memory(&self) -> &Arc<BodyMemory> {
        &self.memory
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_counted_until_it_is_dropped_also_across_a_reload() {
        let memory = BodyMemory::new(10, None);
        let first = Reserved::new(memory.clone());
        assert!(first.take(4) && first.take(4) && !first.take(3));
        assert_eq!((first.bytes(), memory.used()), (8, 8));
        let reloaded = BodyMemory::new(12, Some(&memory));
        let second = Reserved::new(reloaded.clone());
        assert!(second.take(4) && !second.take(1));
        assert_eq!((memory.used(), reloaded.used()), (12, 12));
        drop(first);
        assert_eq!(reloaded.used(), 4);
        drop(second);
        assert_eq!((memory.used(), reloaded.used()), (0, 0));
        assert!(!Reserved::new(reloaded).take(usize::MAX), "the sum does not overflow");
    }
}
